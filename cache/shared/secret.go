package shared

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

const (
	// minSecret is the least that a secret holds after decoding, in bytes.
	minSecret = 32

	// What keys are derived for (RFC 5869 info). The number is the format's: an
	// entry of another one has another name and can't be opened by mistake.
	nameInfo    = "fis name 1"
	verdictInfo = "fis verdict 1"
	feedInfo    = "fis feed 1"
)

// Secrets are what the replicas of one deployment have in common, and nobody
// else: the current secret, then the previous one while it is being replaced.
type Secrets []secret

// secret is the salt of each entry's key, and the source of two keys of its own.
type secret struct {
	salt  []byte
	names []byte      // names entries
	feed  cipher.AEAD // seals events
}

// ParseSecrets reads a secret file: one or two lines of base64 (RFC 4648, either
// alphabet, padded or not) or hex, the current secret first. The error never
// holds content.
func ParseSecrets(content []byte) (Secrets, error) {
	lines := bytes.Split(bytes.TrimRight(content, "\r\n"), []byte("\n"))
	if len(lines) > 2 {
		return nil, errors.New("holds more than two lines: the current secret, and the previous one")
	}
	var secrets Secrets
	for i, line := range lines {
		salt := decode(string(bytes.TrimRight(line, "\r")))
		switch {
		case salt == nil:
			return nil, fmt.Errorf("line %d is not base64 or hex", i+1)
		case len(salt) < minSecret:
			return nil, fmt.Errorf("line %d has %d bytes after decoding, at least %d are needed", i+1, len(salt), minSecret)
		case slices.ContainsFunc(secrets, func(s secret) bool { return bytes.Equal(s.salt, salt) }):
			return nil, errors.New("the two lines hold the same secret")
		}
		s, err := newSecret(salt)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, s)
	}
	return secrets, nil
}

// decode prefers hex: what is hex throughout was meant as that.
func decode(text string) []byte {
	if decoded, err := hex.DecodeString(text); err == nil && text != "" {
		return decoded
	}
	for _, encoding := range []*base64.Encoding{
		base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
	} {
		if decoded, err := encoding.Strict().DecodeString(text); err == nil && text != "" {
			return decoded
		}
	}
	return nil
}

func newSecret(salt []byte) (secret, error) {
	names, err := hkdf.Key(sha256.New, salt, nil, nameInfo, sha256.Size)
	if err != nil {
		return secret{}, err
	}
	key, err := hkdf.Key(sha256.New, salt, nil, feedInfo, sha256.Size)
	if err != nil {
		return secret{}, err
	}
	feed, err := newAEAD(key)
	return secret{salt: salt, names: names, feed: feed}, err
}
