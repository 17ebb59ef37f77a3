package valkey

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Findings is what a probe found out about a store.
type Findings struct {
	// Server is its product and version, such as "redis 7.0.15".
	Server string
	// TooOld says that it lacks SET NX GET: Redis before 7.0.
	TooOld bool
	// Refused is the command that it didn't carry out, with why in Err.
	Refused string
	Err     error
	// Foreign says that the account may read keys of other prefixes.
	Foreign bool
	// Eviction is its maxmemory-policy. Empty: the account may not ask, which it
	// doesn't need to.
	Eviction string
	// ClockAhead is how far its clock is ahead of ours.
	ClockAhead time.Duration
}

// Probe connects once, tries under the prefix what a sidecar does, and removes what
// it wrote. The error says that there was no connection.
func (s *Store) Probe(ctx context.Context, prefix string) (f Findings, err error) {
	client, err := rueidis.NewClient(s.options())
	if client != nil {
		defer client.Close()
	}
	if err != nil {
		return f, err
	}
	probed := &Store{config: s.config, tried: make(chan struct{})}
	probed.client.Store(&client)
	close(probed.tried)
	f.Server, f.TooOld = version(ctx, client)
	if f.TooOld {
		return f, nil
	}
	f.Refused, f.ClockAhead, f.Err = probed.tryCommands(ctx, client, prefix)
	err = client.Do(ctx, client.B().Get().Key("other-"+prefix+":check").Build()).Error()
	f.Foreign = ignoreNil(err) == nil
	if policy, err := client.Do(ctx, client.B().ConfigGet().Parameter("maxmemory-policy").Build()).AsStrMap(); err == nil {
		f.Eviction = policy["maxmemory-policy"]
	}
	return f, nil
}

// version reads the response to HELLO, which every account may ask.
func version(ctx context.Context, client rueidis.Client) (server string, tooOld bool) {
	hello, err := client.Do(ctx, client.B().Arbitrary("HELLO", "3").Build()).AsMap()
	if err != nil {
		return "unknown", false
	}
	product, number := hello["server"], hello["version"]
	name, _ := product.ToString()
	text, _ := number.ToString()
	major, _, _ := strings.Cut(text, ".")
	n, err := strconv.Atoi(major)
	return strings.TrimSpace(name + " " + text), err == nil && n < 7
}

// tryCommands does what a sidecar does with a key and a stream of its own.
func (s *Store) tryCommands(ctx context.Context, client rueidis.Client, prefix string) (refused string, ahead time.Duration, err error) {
	key, stream := fmt.Sprintf("%s:v1:check-%d", prefix, time.Now().UnixNano()), prefix+":check"
	one, two := []byte("one"), []byte("two")
	var before, after time.Time
	for _, step := range []struct {
		command string
		run     func() error
	}{
		{"SET NX GET", func() error { _, err := s.SetNX(ctx, key, one, time.Minute); return err }},
		{"SET", func() error { return s.Set(ctx, key, one, time.Minute) }},
		{"WATCH, GET, MULTI, SET, EXEC", func() error { return swapped(s.Swap(ctx, key, one, two, time.Minute)) }},
		{"DEL", func() error { return swapped(s.Swap(ctx, key, two, nil, 0)) }},
		{"UNWATCH", func() error { _, err := s.Swap(ctx, key, two, one, time.Minute); return err }},
		{"XADD", func() error {
			before = time.Now()
			_, err := s.Append(ctx, stream, [][]byte{one})
			after = time.Now()
			return err
		}},
		{"XREAD", func() error {
			events, err := s.Read(ctx, stream, "0-0", 0)
			if err == nil && len(events) > 0 {
				ahead = clockAhead(events[len(events)-1].ID, before, after)
			}
			return err
		}},
	} {
		if err := step.run(); err != nil {
			return step.command, ahead, err
		}
	}
	if err := client.Do(ctx, client.B().Del().Key(stream).Build()).Error(); err != nil {
		return "DEL", ahead, err
	}
	return "", ahead, nil
}

var errNotSwapped = errors.New("the value wasn't there any more")

func swapped(ok bool, err error) error {
	if err == nil && !ok {
		return errNotSwapped
	}
	return err
}

// clockAhead compares the time in an entry's id with ours around its making.
func clockAhead(id string, before, after time.Time) time.Duration {
	ms, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return 0
	}
	switch at := time.UnixMilli(n); {
	case at.After(after):
		return at.Sub(after)
	case at.Before(before.Truncate(time.Millisecond)):
		return at.Sub(before)
	}
	return 0
}
