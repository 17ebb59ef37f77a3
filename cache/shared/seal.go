package shared

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

// A value begins with what it is.
const (
	leaseMark   = 'L' // 32 hex digits follow: who asks
	verdictMark = 'V' // a sealed record follows
)

// padding is what a record's length is rounded up to, so that its length tells
// little about what it holds.
const padding = 256

// maxSealed bounds what is opened at all: the largest response that is accepted,
// with what is stored around it.
const maxSealed = valkey.MaxValue

// newAEAD returns AES-256-GCM with a random nonce before the ciphertext. With a
// key per token, and a few messages per key, its bound of 2³² messages per key
// (NIST SP 800-38D §8.3) is far away.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// place is where the verdict on one token at one authority stands under one
// secret, and what opens it.
type place struct {
	key  string
	aead cipher.AEAD
}

// placesOf returns the token's places: one, or two while a secret is being
// replaced. All replicas that know both visit them in the same order, so that no
// two wait for each other.
func placesOf(secrets Secrets, prefix, authority, token string) ([]place, error) {
	places := make([]place, 0, len(secrets))
	for _, s := range secrets {
		// Who can write to the store and has a token of his own, be it expired,
		// could seal any verdict for it if the token were all that the key is made
		// of: the secret stops that. With the secret alone, nothing can be read.
		key, err := hkdf.Key(sha256.New, []byte(token), s.salt, verdictInfo+authority, sha256.Size)
		if err != nil {
			return nil, err
		}
		aead, err := newAEAD(key)
		if err != nil {
			return nil, err
		}
		places = append(places, place{key: prefix + ":v1:" + s.name(authority, token), aead: aead})
	}
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.key, b.key) })
	return places, nil
}

// name stands for the token: nobody without the secret can tell whose it is, and
// the authority's length keeps two pairs from having one name.
func (s secret) name(authority, token string) string {
	digest := sha256.Sum256([]byte(token))
	mac := hmac.New(sha256.New, s.names)
	message := binary.BigEndian.AppendUint64(nil, uint64(len(authority)))
	mac.Write(append(append(message, authority...), digest[:]...))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// seal returns a value for this place. What it is bound to by the associated
// data is the whole key: moved elsewhere it doesn't open.
func (p place) seal(r record) []byte { return seal(p.aead, verdictMark, p.key, r.encode()) }

// open returns the record of a value that was sealed for this place.
func (p place) open(value []byte) (record, bool) {
	plain, ok := unseal(p.aead, verdictMark, p.key, value)
	if !ok {
		return record{}, false
	}
	return decodeRecord(plain)
}

// seal pads and encrypts. The length of the content must be told by itself.
func seal(aead cipher.AEAD, mark byte, bound string, plain []byte) []byte {
	padded := make([]byte, (len(plain)+padding-1)/padding*padding)
	copy(padded, plain)
	return aead.Seal([]byte{mark}, nil, padded, []byte(bound)) //nolint:gosec // it makes a random nonce itself
}

func unseal(aead cipher.AEAD, mark byte, bound string, value []byte) (plain []byte, ok bool) {
	if len(value) < 1+aead.Overhead() || len(value) > maxSealed || value[0] != mark {
		return nil, false
	}
	plain, err := aead.Open(nil, nil, value[1:], []byte(bound))
	return plain, err == nil
}
