package proxy

// maxSetHeaders is how many headers the proxy itself may set upstream: the
// context headers, Authorization, the request id, four forwarding headers, the
// hop and TE.
const maxSetHeaders = len(contextTable) + 8

// valueList is room for the values of headers, in one allocation with the rest of
// an exchange.
type valueList struct {
	values [maxSetHeaders]string
	used   int
}

// single returns a header value list of one value. The lists share one array;
// nothing appends to them in place, as they are full.
func (v *valueList) single(value string) []string {
	if v.used == len(v.values) {
		return []string{value}
	}
	i := v.used
	v.values[i] = value
	v.used++
	return v.values[i : i+1 : i+1]
}
