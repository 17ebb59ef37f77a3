package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keyInterval is the time in which the issuer's keys are read keyReads times at
	// most: a flood of tokens with unknown key ids must not become a flood of requests.
	keyInterval = 10 * time.Second

	// keyReads is more than one, so that a new key is found at once although the keys
	// were read a moment ago.
	keyReads = 3

	// keyPatience is how long a request waits for keys. Without them the endpoint
	// decides, and needs its time as well.
	keyPatience = 500 * time.Millisecond

	// maxKeySet bounds the issuer's keys.
	maxKeySet = 1 << 20
)

// keySet is what the issuer published at one time.
type keySet struct {
	keys []issuerKey
	read time.Time
}

// issuerKey is one of its keys. Those that can't be used here are kept without the
// key itself: what they signed is for the endpoint to judge.
type issuerKey struct {
	id  string
	key crypto.PublicKey // nil: can't be used
}

// judge holds a token against the keys that it names. Without a key id any of them
// may have made it, or one that isn't published yet.
func (s *keySet) judge(h jwtHeader, token string) finding {
	found := unknown
	for _, k := range s.keys {
		if h.KeyID != "" && k.id != h.KeyID {
			continue
		}
		if k.key == nil {
			return unknown
		}
		switch verify(k.key, h.Algorithm, token) {
		case genuine:
			return genuine
		case unknown:
			return unknown
		case forged:
			found = forged
		}
	}
	if h.KeyID == "" {
		return unknown
	}
	return found
}

// names reports whether there is a key of that id.
func (s *keySet) names(id string) bool {
	return slices.ContainsFunc(s.keys, func(k issuerKey) bool { return k.id == id })
}

// parseKeySet reads a JSON Web Key Set (RFC 7517 §5). A key that can't be used is
// no reason to give up the others.
func parseKeySet(content []byte) ([]issuerKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, err
	}
	var keys []issuerKey
	for _, raw := range set.Keys {
		var named struct {
			ID  string `json:"kid"`
			Use string `json:"use"`
		}
		if json.Unmarshal(raw, &named) != nil {
			continue // it has no id that a token could name
		}
		k := issuerKey{id: named.ID}
		var parsed jose.JSONWebKey
		if parsed.UnmarshalJSON(raw) == nil && named.Use != "enc" {
			k.key = usable(parsed.Key)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// usable returns a public key that signatures can be verified with here, or nil.
func usable(key any) crypto.PublicKey {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits {
			return nil
		}
		return key
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return key
	}
	return nil
}

// issuerKeys reads the issuer's keys when they are needed, and remembers them.
type issuerKeys struct {
	location func() string // "" while it isn't known
	client   *http.Client
	now      func() time.Time

	mu      sync.Mutex // not held while they are read
	from    string
	set     *keySet             // nil: never read
	last    [keyReads]time.Time // when a read began, the oldest time first
	reading chan struct{}       // closed when the one under way ends; nil: none
}

// current returns the keys, or nil when they can't be had.
func (k *issuerKeys) current(ctx context.Context) *keySet {
	k.mu.Lock()
	k.follow()
	set := k.set
	k.mu.Unlock()
	if set == nil {
		return k.newer(ctx, nil)
	}
	return set
}

// newer returns keys that were read after old, or nil when they can't be had: too
// many reads lately, or the issuer is slow or away.
func (k *issuerKeys) newer(ctx context.Context, old *keySet) *keySet {
	k.mu.Lock()
	k.follow()
	if k.set != old && k.set != nil {
		defer k.mu.Unlock()
		return k.set
	}
	done := k.reading
	if done == nil {
		if done = k.start(ctx); done == nil {
			k.mu.Unlock()
			return nil
		}
	}
	k.mu.Unlock()
	timer := time.NewTimer(keyPatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == old {
		return nil
	}
	return k.set
}

// follow forgets the keys of another place. k.mu is held.
func (k *issuerKeys) follow() {
	if location := k.location(); location != k.from {
		k.from, k.set, k.reading, k.last = location, nil, nil, [keyReads]time.Time{}
	}
}

// start reads the keys, unless they were read too often lately. k.mu is held.
func (k *issuerKeys) start(ctx context.Context) (done chan struct{}) {
	now := k.now()
	if k.from == "" || !k.last[0].IsZero() && now.Sub(k.last[0]) < keyInterval {
		return nil
	}
	copy(k.last[:], k.last[1:])
	k.last[keyReads-1] = now
	done = make(chan struct{})
	k.reading = done
	go k.read(context.WithoutCancel(ctx), k.from, done)
	return done
}

// read outlives the request that began it. A failure leaves the keys that were good.
func (k *issuerKeys) read(ctx context.Context, location string, done chan struct{}) {
	began := k.now()
	keys, err := k.fetch(ctx, location)
	k.mu.Lock()
	defer k.mu.Unlock()
	defer close(done)
	if k.reading != done {
		return // they are elsewhere by now
	}
	k.reading = nil
	if err == nil {
		k.set = &keySet{keys: keys, read: began}
	}
}

func (k *issuerKeys) fetch(ctx context.Context, location string) ([]issuerKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	res, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	if err != nil || res.StatusCode != http.StatusOK || len(body) > maxKeySet {
		return nil, errNoKeys
	}
	return parseKeySet(body)
}
