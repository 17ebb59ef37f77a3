package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
)

// key stands for one token at one authority. It is the first half of an HMAC-SHA-256: two
// of a million tokens have the same one with a probability of 2^-89, and nobody who
// doesn't know the key of this process can look for such a pair.
type key [sha256.Size / 2]byte

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
		mac := hmac.New(sha256.New, secret)
		mac.Reset() // from here on a reset is a copy of a prepared state
		return &keyState{mac: mac}
	}}}
}

// key binds authority and token.
func (k *keyer) key(authority, token string) key {
	s, _ := k.pool.Get().(*keyState)
	s.buffer = append(s.buffer[:0], token...)
	digest := sha256.Sum256(s.buffer)
	clear(s.buffer) // the pool must not keep tokens
	defer k.pool.Put(s)
	return s.sum(authority, digest)
}

// digestKey is key for a token of which only the SHA-256 is known.
func (k *keyer) digestKey(authority string, digest [sha256.Size]byte) key {
	s, _ := k.pool.Get().(*keyState)
	defer k.pool.Put(s)
	return s.sum(authority, digest)
}

// sum is unambiguous, because the digest has a fixed length.
func (s *keyState) sum(authority string, digest [sha256.Size]byte) (out key) {
	s.buffer = append(append(s.buffer[:0], digest[:]...), authority...)
	s.mac.Write(s.buffer)
	s.buffer = s.mac.Sum(s.buffer[:0])
	s.mac.Reset()
	copy(out[:], s.buffer)
	return out
}
