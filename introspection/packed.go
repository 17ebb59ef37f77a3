package introspection

import (
	"encoding/binary"
	"strconv"
)

// The bits of the first byte of a packed response. Above them is its Kind.
const (
	packedExp    = 1 << 0 // has exp
	packedDigits = 1 << 1 // Expires is exp in digits, and left out
	packedKind   = 2      // shift
)

// Pack appends the response to b, in a form of this process for a cache that keeps very
// many: bytes, in which the collector follows no pointer. When it was obtained is left
// out, since such a cache keeps an age of its own. Unpack reads it.
func (r *Response) Pack(b []byte) []byte {
	flags := byte(r.kind) << packedKind
	if r.hasExp {
		flags |= packedExp
	}
	var digits [20]byte
	if string(strconv.AppendInt(digits[:0], r.expires, 10)) == r.Text(Expires) {
		flags |= packedDigits
	}
	b = append(b, flags)
	for _, date := range []int64{r.expires, r.notBefore, r.issuedAt} {
		b = binary.AppendVarint(b, date)
	}
	b = binary.AppendUvarint(b, uint64(r.unusable))
	return r.packText(b, flags)
}

// packText appends the lengths of the claims that there are, then their texts.
func (r *Response) packText(b []byte, flags byte) []byte {
	var present ClaimSet
	for c := range claimCount {
		if r.Text(c) != "" {
			present |= NewClaimSet(c)
		}
	}
	b = binary.AppendUvarint(b, uint64(present))
	for c := range claimCount {
		if present.Has(c) {
			b = binary.AppendUvarint(b, uint64(len(r.Text(c))))
		}
	}
	if flags&packedDigits == 0 {
		return append(b, r.text...)
	}
	return append(append(b, r.text[:r.ends[Expires-1]]...), r.text[r.ends[Expires]:]...)
}

// Unpack returns the response that Pack made b of, with a zero ObtainedAt. It keeps
// nothing of b.
func Unpack(b []byte) *Response {
	flags := b[0]
	b = b[1:]
	r := &Response{kind: Kind(flags >> packedKind), hasExp: flags&packedExp != 0}
	r.expires, r.notBefore, r.issuedAt = unpackDate(&b), unpackDate(&b), unpackDate(&b)
	r.unusable = ClaimSet(unpackLength(&b))
	present := ClaimSet(unpackLength(&b))
	var end uint32
	for c := range claimCount {
		if present.Has(c) {
			end += unpackLength(&b)
		}
		r.ends[c] = end
	}
	if flags&packedDigits == 0 {
		r.text = string(b)
		return r
	}
	var digits [20]byte
	before := b[:r.ends[Expires-1]]
	r.text = string(before) + string(strconv.AppendInt(digits[:0], r.expires, 10)) + string(b[len(before):])
	return r
}

func unpackDate(b *[]byte) int64 {
	n, size := binary.Varint(*b)
	*b = (*b)[size:]
	return n
}

// unpackLength reads what was no more than 32 bits long.
func unpackLength(b *[]byte) uint32 {
	n, size := binary.Uvarint(*b)
	*b = (*b)[size:]
	return uint32(n)
}
