package shared

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
)

// event is a purge that all replicas make.
type feedEvent struct {
	// Filter says what is purged.
	Filter cache.Filter
	// Source says what caused it, one of a few constants.
	Source string

	id string // of this purge, wherever and however often it stands in the feed
}

// eventMark is the first byte of a sealed event.
const eventMark = 'E'

// wireEvent is an event as it is sealed. The names are short because nobody
// reads them.
type wireEvent struct {
	ID       string `json:"id"`
	Source   string `json:"source"`
	Digest   string `json:"token_sha256,omitempty"`
	Subject  string `json:"sub,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	Patient  string `json:"patient,omitempty"`
}

// newEvent gives a purge an id of its own, by which a replica knows it again.
func newEvent(filter cache.Filter, source string) feedEvent {
	return feedEvent{Filter: filter, Source: source, id: rand.Text()}
}

// seal returns the event under each secret, so that replicas that know only one
// of them can open it. Nobody without a secret can read one or make one up.
func (e feedEvent) seal(secrets Secrets, stream string) ([][]byte, error) {
	wire := wireEvent{
		ID: e.id, Source: e.Source,
		Subject: e.Filter.Subject, ClientID: e.Filter.ClientID, Patient: e.Filter.Patient,
	}
	if e.Filter.TokenSHA256 != nil {
		wire.Digest = hex.EncodeToString(e.Filter.TokenSHA256[:])
	}
	text, err := json.Marshal(wire)
	if err != nil {
		return nil, err
	}
	plain := append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	var values [][]byte
	for _, s := range secrets {
		values = append(values, seal(s.feed, eventMark, stream, plain))
	}
	return values, nil
}

var errNotOurs = errors.New("event doesn't open")

// openEvent returns the event that stands in one of the values.
func openEvent(secrets Secrets, stream string, values [][]byte) (feedEvent, error) {
	for _, value := range values {
		for _, s := range secrets {
			plain, ok := unseal(s.feed, eventMark, stream, value)
			if !ok || len(plain) < 4 {
				continue
			}
			length := int(binary.BigEndian.Uint32(plain))
			if length > len(plain)-4 {
				continue
			}
			return decodeEvent(plain[4 : 4+length])
		}
	}
	return feedEvent{}, errNotOurs
}

func decodeEvent(text []byte) (feedEvent, error) {
	var wire wireEvent
	if err := json.Unmarshal(text, &wire); err != nil || wire.ID == "" {
		return feedEvent{}, errNotOurs
	}
	e := feedEvent{
		Filter: cache.Filter{Subject: wire.Subject, ClientID: wire.ClientID, Patient: wire.Patient},
		Source: wire.Source, id: wire.ID,
	}
	if wire.Digest != "" {
		digest, err := hex.DecodeString(wire.Digest)
		if err != nil || len(digest) != sha256.Size {
			return feedEvent{}, errNotOurs
		}
		e.Filter.TokenSHA256 = (*[sha256.Size]byte)(digest)
	}
	return e, nil
}
