package shared

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// record is what is stored about a token: the authorization server's response,
// byte for byte, and what a reader needs to judge it. Each reader decodes it by
// its own settings: a response decoded by the writer would lack the claims that
// only the reader keeps, and a token that is limited to one patient would look
// unlimited.
type record struct {
	active   bool
	obtained time.Time // by the writer's clock, in milliseconds
	position position  // in the feed, known to the writer before it asked
	body     []byte
}

// incarnation tells one life of the store from the next: it is made anew when
// the store was wiped.
type incarnation [16]byte

func newIncarnation() (i incarnation) {
	_, _ = rand.Read(i[:]) // never fails since Go 1.24
	return i
}

// position is a place in the feed of one incarnation. The zero position comes
// before all events.
type position struct {
	incarnation incarnation
	ms, n       uint64
}

// recordHeader is the length of all before the body: a flag, a time, a position
// of 16+8+8 bytes and the body's length.
const recordHeader = 1 + 8 + 16 + 8 + 8 + 4

func (r record) encode() []byte {
	out := make([]byte, 0, recordHeader+len(r.body))
	flag := byte(0)
	if r.active {
		flag = 1
	}
	out = append(out, flag)
	out = binary.BigEndian.AppendUint64(out, uint64(r.obtained.UnixMilli()))
	out = append(out, r.position.incarnation[:]...)
	out = binary.BigEndian.AppendUint64(out, r.position.ms)
	out = binary.BigEndian.AppendUint64(out, r.position.n)
	out = binary.BigEndian.AppendUint32(out, uint32(len(r.body)))
	return append(out, r.body...)
}

func decodeRecord(plain []byte) (r record, ok bool) {
	if len(plain) < recordHeader || plain[0] > 1 {
		return record{}, false
	}
	r.active = plain[0] == 1
	rest := plain[1:]
	r.obtained = time.UnixMilli(int64(binary.BigEndian.Uint64(rest)))
	rest = rest[8:]
	copy(r.position.incarnation[:], rest)
	rest = rest[len(r.position.incarnation):]
	r.position.ms, r.position.n = binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
	rest = rest[16:]
	length := int(binary.BigEndian.Uint32(rest))
	if rest = rest[4:]; length > len(rest) {
		return record{}, false
	}
	r.body = rest[:length]
	return r, true
}
