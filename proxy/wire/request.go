package wire

// Request is a client's request but for its body, whoever has read it.
type Request struct {
	Method string
	Target string // as it stood in the request line
	Host   string // "": there is none
	Fields Fields // all but Host and those that frame the body
	Length int64  // of the body, in bytes, or Chunked
	Peer   string // address and port of who sent it
	Secure bool   // it came over TLS
}
