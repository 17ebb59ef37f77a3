package wire

import (
	"errors"
	"strconv"
	"strings"
)

// Lengths of bodies that aren't known before their end.
const (
	// Chunked is the length of a body that tells it as it goes.
	Chunked = -1
	// UntilClose is that of one that ends with its connection.
	UntilClose = -2
)

var (
	// ErrMalformed says that a head isn't HTTP.
	ErrMalformed = errors.New("malformed head")
	// ErrAmbiguous says that a head can be read in more than one way.
	ErrAmbiguous = errors.New("head with more than one reading")
)

// A ResponseHead is all of a response's head.
type ResponseHead struct {
	Status int
	// Fields are all that can be passed on, but for those that frame the body.
	Fields Fields
	// Length is that of the body that follows, in bytes, or Chunked or UntilClose.
	Length int64
	// Told is the Content-Length, which a response without a body may have too; -1
	// without one.
	Told int64
	// Trailers are the names that Trailer announces for after a chunked body.
	Trailers []string
	// Keeps tells whether the connection goes on after the body.
	Keeps bool
}

// Final reports whether no other response follows this one. 101 is final: what follows
// isn't HTTP.
func (h *ResponseHead) Final() bool { return h.Status/100 != 1 || h.Status == 101 }

// Parse reads a head, with the empty line at its end, of a response to a method. It
// reads what net/http reads, and only if every other server would read the same: where a
// response ends for one that sends two lengths or bare line feeds is a guess (RFC 9112
// §2.2, §5.2, §6.3), and a wrong guess would be the next client's response. Fields are
// appended to h.Fields.
func (h *ResponseHead) Parse(head, method string) error {
	line, rest := CutLine(head)
	minor, err := h.parseStatus(line)
	if err != nil {
		return err
	}
	p := responseParser{h: h, modern: minor > 0, length: -1}
	for rest != "\r\n" {
		if line, rest = CutLine(rest); rest == "" {
			return ErrAmbiguous
		}
		if err := p.field(line); err != nil {
			return err
		}
	}
	return p.end(method)
}

// CheckStatusLine returns an error for what doesn't begin a response, so that nobody
// waits for the rest of it.
func CheckStatusLine(line string) error {
	_, err := new(ResponseHead).parseStatus(line)
	return err
}

// parseStatus reads a status line, and returns 0 for HTTP/1.0 and 1 for later ones.
func (h *ResponseHead) parseStatus(line string) (minor int, err error) {
	proto, status, ok := strings.Cut(line, " ")
	if strings.ContainsAny(line, "\r\n\x00") {
		return 0, ErrAmbiguous
	}
	code, _, _ := strings.Cut(strings.TrimLeft(status, " "), " ")
	if !ok || len(code) != 3 || len(proto) != len("HTTP/1.1") || proto[:5] != "HTTP/" || proto[6] != '.' || !isDigit(proto[5]) || proto[5] == '0' || !isDigit(proto[7]) {
		return 0, ErrMalformed
	}
	if h.Status, err = strconv.Atoi(code); err != nil || h.Status < 0 || code[0] == '+' {
		return 0, ErrMalformed
	}
	h.Keeps = proto == "HTTP/1.1" && h.Status >= 200
	if proto == "HTTP/1.0" {
		return 0, nil
	}
	return 1, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// responseParser is on its way through the fields of a response.
type responseParser struct {
	h       *ResponseHead
	modern  bool // HTTP/1.1 or later
	framed  int  // fields that frame the body
	chunked bool
	length  int64
}

// field reads a line. Bytes that stand in no line are those of somebody else's.
func (p *responseParser) field(line string) error {
	switch {
	case !isFieldValue(line):
		return causeOf(line)
	case line[0] == ' ' || line[0] == '\t': // continues the one before it
		return ErrAmbiguous
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" {
		return ErrMalformed
	}
	f := Field{name, trim(value)}
	switch {
	case !all(name, inToken):
		return spaced(name)
	case f.Is("content-length"):
		return p.takeLength(f.Value)
	case f.Is("transfer-encoding"):
		p.framed++
		if p.chunked = p.modern; p.modern && !equalFold(f.Value, "chunked") {
			return ErrMalformed
		}
		return nil
	case f.Is("connection"):
		p.closes(f.Value)
	}
	p.h.Fields = append(p.h.Fields, f)
	return nil
}

// causeOf says what is wrong with a line that no value could stand in. One that others
// would take for two lines, or for a part of one, is worse than none.
func causeOf(line string) error {
	if strings.ContainsAny(line, "\r\n\x00") {
		return ErrAmbiguous
	}
	return ErrMalformed
}

func (p *responseParser) takeLength(value string) error {
	p.framed++
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return ErrMalformed
	}
	p.length = int64(n)
	return nil
}

func (p *responseParser) closes(options string) {
	for option := range strings.SplitSeq(options, ",") {
		p.h.Keeps = p.h.Keeps && !equalFold(trim(option), "close")
	}
}

// spaced judges a name that is none. Some servers take a field with spaces before its
// colon for one without (RFC 9112 §5.1), others don't, so that nobody gets it; one that
// frames the body is as bad as two.
func spaced(name string) error {
	switch {
	case beginsFraming(name):
		return ErrAmbiguous
	case !all(strings.ReplaceAll(name, " ", ""), inToken):
		return ErrMalformed
	}
	return nil
}

func beginsFraming(name string) bool {
	for _, framing := range [...]string{"content-length", "transfer-encoding"} {
		if len(name) > len(framing) && equalFold(name[:len(framing)], framing) && (name[len(framing)] == ' ' || name[len(framing)] == '\t') {
			return true
		}
	}
	return false
}

// end says where the body ends (RFC 9112 §6.3).
func (p *responseParser) end(method string) error {
	h := p.h
	switch {
	case p.framed > 1:
		return ErrAmbiguous
	case p.framed == 1 && !h.Final(): // has no body whose end could be told (RFC 9110 §8.6)
		return ErrAmbiguous
	}
	h.Told = -1
	if !p.chunked {
		h.Told = p.length
	}
	return p.frame(method)
}

func (p *responseParser) frame(method string) error {
	h := p.h
	switch {
	case p.chunked:
		h.Length = Chunked
		if err := h.announce(); err != nil {
			return err
		}
	case h.Told >= 0:
		h.Length = h.Told
	default:
		h.Length = UntilClose
	}
	if method == "HEAD" || h.Status/100 == 1 || h.Status == 204 || h.Status == 304 {
		h.Length = 0
	}
	h.Keeps = h.Keeps && h.Length != UntilClose
	return nil
}

// announce takes the names of trailers out of the fields.
func (h *ResponseHead) announce() error {
	var err error
	for i := range h.Fields {
		if f := &h.Fields[i]; f.Is("trailer") {
			for name := range strings.SplitSeq(f.Value, ",") {
				if name = trim(name); name == "" {
					continue
				}
				if isFraming(name) {
					err = ErrMalformed
				}
				h.Trailers = append(h.Trailers, name)
			}
		}
	}
	return err
}

// isFraming holds for names that no trailer has.
func isFraming(name string) bool {
	return equalFold(name, "transfer-encoding") || equalFold(name, "trailer") || equalFold(name, "content-length")
}
