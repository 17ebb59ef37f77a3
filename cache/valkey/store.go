package valkey

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// KeptEvents is how many entries a stream keeps at least; the server drops older
// ones when it can do so cheaply.
const KeptEvents = 10_000

// replicaWait is how long Append waits for one replica, in milliseconds.
const replicaWait = 100

// ReadCount is how many entries one Read returns at most.
const ReadCount = 1000

// Event is an entry of a stream.
type Event struct {
	// ID is the position that the server gave it, "milliseconds-number".
	ID string
	// Values are its fields' values in their order.
	Values [][]byte
}

// SetNX sets key for ttl unless it has a value, which is returned then. Nil says
// that the value was set. A ttl of zero means for ever.
func (s *Store) SetNX(ctx context.Context, key string, value []byte, ttl time.Duration) (found []byte, err error) {
	client, err := s.connected(ctx)
	if err != nil {
		return nil, err
	}
	set := client.B().Set().Key(key).Value(rueidis.BinaryString(value)).Nx().Get()
	if ttl > 0 {
		found, err = client.Do(ctx, set.PxMilliseconds(ttl.Milliseconds()).Build()).AsBytes()
	} else {
		found, err = client.Do(ctx, set.Build()).AsBytes()
	}
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	return found, err
}

// Set sets key for ttl, whatever value it has.
func (s *Store) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	client, err := s.connected(ctx)
	if err != nil {
		return err
	}
	return client.Do(ctx, client.B().Set().Key(key).Value(rueidis.BinaryString(value)).
		PxMilliseconds(ttl.Milliseconds()).Build()).Error()
}

// Swap replaces the value of key by another for ttl, or removes it when that is
// nil, and reports whether it did: only while key still has the old value.
func (s *Store) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) (swapped bool, err error) {
	client, err := s.connected(ctx)
	if err != nil {
		return false, err
	}
	err = client.Dedicated(func(c rueidis.DedicatedClient) error {
		if err := c.Do(ctx, c.B().Watch().Key(key).Build()).Error(); err != nil {
			return err
		}
		now, err := c.Do(ctx, c.B().Get().Key(key).Build()).AsBytes()
		if err != nil || !bytes.Equal(now, old) {
			// The connection goes back to the pool: it must watch nothing any more.
			return errors.Join(ignoreNil(err), c.Do(ctx, c.B().Unwatch().Build()).Error())
		}
		change := c.B().Del().Key(key).Build()
		if value != nil {
			change = c.B().Set().Key(key).Value(rueidis.BinaryString(value)).PxMilliseconds(ttl.Milliseconds()).Build()
		}
		results := c.DoMulti(ctx, c.B().Multi().Build(), change, c.B().Exec().Build())
		for _, result := range results[:2] {
			if err := result.Error(); err != nil {
				return err
			}
		}
		// EXEC responds with nil when key changed after WATCH.
		err = results[2].Error()
		swapped = err == nil
		return ignoreNil(err)
	})
	return swapped && err == nil, err
}

func ignoreNil(err error) error {
	if rueidis.IsRedisNil(err) {
		return nil
	}
	return err
}

// Append adds an entry to a stream. Where the store has replicas by its kind
// (Sentinel, cluster), it reports whether one of them has the entry too.
func (s *Store) Append(ctx context.Context, stream string, values [][]byte) (replicated bool, err error) {
	client, err := s.connected(ctx)
	if err != nil {
		return false, err
	}
	err = client.Dedicated(func(c rueidis.DedicatedClient) error {
		fields := c.B().Xadd().Key(stream).Maxlen().Almost().Threshold(strconv.Itoa(KeptEvents)).Id("*").FieldValue()
		for _, value := range values {
			fields = fields.FieldValue("e", rueidis.BinaryString(value))
		}
		if err := c.Do(ctx, fields.Build()).Error(); err != nil || !s.Replicated() {
			return err
		}
		// Not counted as the command's failure: the entry is there.
		n, err := c.Do(ctx, c.B().Wait().Numreplicas(1).Timeout(replicaWait).Build()).AsInt64()
		replicated = err == nil && n > 0
		return nil
	})
	return replicated, err
}

// Read returns entries of a stream after a position, at most a thousand at a
// time, and waits up to block for the first. Zero doesn't wait.
func (s *Store) Read(ctx context.Context, stream, after string, block time.Duration) ([]Event, error) {
	client, err := s.connected(ctx)
	if err != nil {
		return nil, err
	}
	var response rueidis.RedisResult
	if read := client.B().Xread().Count(ReadCount); block > 0 {
		response = client.Do(ctx, read.Block(block.Milliseconds()).Streams().Key(stream).Id(after).Build())
	} else {
		response = client.Do(ctx, read.Streams().Key(stream).Id(after).Build())
	}
	streams, err := response.AsXReadSlices()
	if err != nil {
		return nil, ignoreNil(err)
	}
	var events []Event
	for _, entry := range streams[stream] {
		event := Event{ID: entry.ID}
		for _, pair := range entry.FieldValues {
			event.Values = append(event.Values, []byte(pair.Value))
		}
		events = append(events, event)
	}
	return events, nil
}
