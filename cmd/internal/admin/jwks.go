package admin

import "net/http"

// keys publishes the keys that our assertions are signed with, so that they can be
// registered by URL (RFC 7591 jwks_uri).
func keys(jwks func() ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		set, err := jwks()
		if err != nil || set == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "public, max-age=60")
		_, _ = w.Write(set) // write errors are ignored: the client has gone
	}
}
