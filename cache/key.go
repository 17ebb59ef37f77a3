package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
)

// key stands for one token at one authority.
type key [sha256.Size]byte

func (k key) ref() string { return hex.EncodeToString(k[:4]) }

// keyer makes keys under a random key, so that a dump of this process or a log
// can't be matched with tokens or with another process.
type keyer struct{ pool sync.Pool }

// keyState is pooled, because making a key is on the path of every request.
type keyState struct {
	mac    hash.Hash
	buffer []byte
}

func newKeyer() *keyer {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails since Go 1.24
	return &keyer{pool: sync.Pool{New: func() any {
		return &keyState{mac: hmac.New(sha256.New, secret)}
	}}}
}

// key binds authority and token; the NUL between them can't be part of either.
func (k *keyer) key(authority, token string) (out key) {
	s, _ := k.pool.Get().(*keyState)
	s.buffer = append(s.buffer[:0], authority...)
	s.buffer = append(s.buffer, 0)
	s.buffer = append(s.buffer, token...)
	s.mac.Reset()
	s.mac.Write(s.buffer)
	clear(s.buffer) // the pool must not keep tokens
	s.buffer = s.mac.Sum(s.buffer[:0])
	copy(out[:], s.buffer)
	k.pool.Put(s)
	return out
}
