package introspection

import (
	"fmt"
	"strings"
)

// QuoteASCII returns s as a JSON string of printable ASCII (RFC 8259 §7), which
// can stand in a header as it is.
func QuoteASCII(s string) string {
	var b strings.Builder
	quoteASCII(&b, s)
	return b.String()
}

func quoteASCII(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case strings.ContainsRune("\b\t\n\f\r", r): // as most encoders write them
			b.WriteByte('\\')
			b.WriteByte("btn_fr"[r-'\b'])
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
}
