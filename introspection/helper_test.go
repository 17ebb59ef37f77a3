package introspection

import "time"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// canary is part of every secret of these tests and must appear nowhere else.
const canary = "cAnArY-7f3b"

// decodeResponse reads a body that was obtained now.
func decodeResponse(body []byte, wanted ClaimSet, now time.Time) (*Response, error) {
	return Decoder{Claims: wanted}.Decode(Answer{Body: body, ObtainedAt: now}, now)
}
