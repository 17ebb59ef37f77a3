package introspection

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// NewRequestID returns a random UUID (RFC 9562 §5.4), the form Koppeltaal asks
// of X-Request-Id.
func NewRequestID() string {
	// It is no secret, so that it need not come from the kernel each time.
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // see above
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // see above
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	var text [36]byte
	hex.Encode(text[:8], b[:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:], b[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
