package introspection

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
)

var errDate = errors.New("is not a number of seconds")

// ParseDate reads a NumericDate (RFC 7519 §2) that is not null in whole seconds:
// a number, fractional or not, or a string of digits.
func ParseDate(raw json.RawMessage) (int64, error) {
	literal := string(raw)
	if raw[0] == '"' {
		literal = literal[1 : len(literal)-1]
		if literal == "" || strings.Trim(literal, "0123456789") != "" {
			return 0, errDate
		}
	}
	if whole, err := strconv.ParseInt(literal, 10, 64); err == nil {
		return whole, checkSeconds(float64(whole))
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return 0, errDate
	}
	// Beyond int64 the number is still a date that never comes.
	return int64(math.Floor(max(math.MinInt64, min(f, math.MaxInt64/2)))), checkSeconds(f)
}

// checkSeconds refuses what can only be milliseconds: read as seconds, such a
// token would be good for fifty thousand years. Larger numbers are not guessed at.
func checkSeconds(f float64) error {
	if f >= 1e12 && f < 1e14 {
		return errors.New("looks like milliseconds, not seconds")
	}
	return nil
}
