package fhir

import (
	"net/url"
	"strings"
)

// Format is one of the two wire formats a refusal is written in. The zero
// value is JSON.
type Format uint8

// The formats of FHIR R4 that this package writes.
const (
	JSON Format = iota
	XML
)

// MediaType returns the Content-Type of the format, without parameters.
func (f Format) MediaType() string {
	if f == XML {
		return "application/fhir+xml"
	}
	return "application/fhir+json"
}

// String returns the short name of the format, as _format accepts it.
func (f Format) String() string {
	if f == XML {
		return "xml"
	}
	return "json"
}

const (
	maxRanges   = 32  // media ranges read of one request; browsers send under ten
	maxRange    = 256 // bytes of one media range or _format value; longer ones are skipped
	fullQuality = 1000
)

// Negotiate picks the format of a refusal from the raw query and the values of
// the Accept header. FHIR's _format parameter goes before the header (R4 http,
// 3.1.0.1.11). Of the header the highest q wins and the first of equals; a
// wildcard means JSON, and so does anything unknown: a refusal is never itself
// refused with 406.
func Negotiate(rawQuery string, accept []string) Format {
	if f, ok := formatParameter(rawQuery); ok {
		return f
	}
	return acceptFormat(accept)
}

// formatParameter returns the first _format that names a known format. A query
// that Go's url package would refuse elsewhere still counts.
func formatParameter(rawQuery string) (Format, bool) {
	const longestKey = len("%5F%66%6F%72%6D%61%74") // _format with every byte encoded
	for rawQuery != "" {
		var pair string
		pair, rawQuery, _ = strings.Cut(rawQuery, "&")
		key, value, _ := strings.Cut(pair, "=")
		if len(key) > longestKey || len(value) > 3*maxRange {
			continue
		}
		if k, err := url.QueryUnescape(key); err != nil || k != "_format" {
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil {
			continue
		}
		if f, ok := parseFormat(value); ok {
			return f, true
		}
	}
	return JSON, false
}

// acceptFormat reads Accept by RFC 9110, 12.5.1, except that a more specific
// range is not preferred to a wildcard of the same weight: the order decides.
func acceptFormat(accept []string) Format {
	var p preference
	ranges := 0
	for _, field := range accept {
		for field != "" && ranges < maxRanges {
			ranges++
			var item string
			item, field = cutUnquoted(field, ',')
			p.add(parseRange(item))
		}
	}
	if p.wildcard && p.excluded[JSON] && !p.excluded[XML] {
		return XML // "anything but JSON"
	}
	return p.format
}

// preference is the best media range seen so far. Its zero value is JSON.
type preference struct {
	format   Format
	quality  int
	wildcard bool
	excluded [2]bool // by Format: named with q=0
}

func (p *preference) add(mediaType string, quality int) {
	format, known := parseFormat(mediaType)
	wildcard := mediaType == "*/*" || strings.EqualFold(mediaType, "application/*")
	switch {
	case known && quality == 0:
		p.excluded[format] = true
	case (known || wildcard) && quality > p.quality:
		p.format, p.quality, p.wildcard = format, quality, wildcard
	}
}

// parseRange splits one element of Accept into its media type and its weight
// in thousandths. Anything that is not a media range comes back as "", which
// names no format.
func parseRange(item string) (mediaType string, quality int) {
	if len(item) > maxRange {
		return "", 0
	}
	mediaType, params := cutUnquoted(item, ';')
	quality = fullQuality
	for params != "" {
		var param string
		param, params = cutUnquoted(params, ';')
		name, value, _ := strings.Cut(strings.Trim(param, " \t"), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		q, ok := parseQuality(value)
		if !ok {
			return "", 0
		}
		quality = q
	}
	return strings.Trim(mediaType, " \t"), quality
}

// parseQuality reads a qvalue (RFC 9110, 12.4.2). More than three decimals are
// tolerated and cut off, since some clients print a float.
func parseQuality(s string) (thousandths int, ok bool) {
	whole, decimals, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" {
		return 0, false
	}
	thousandths = int(whole[0]-'0') * fullQuality
	for i, unit := 0, 100; i < len(decimals); i, unit = i+1, unit/10 {
		if decimals[i] < '0' || decimals[i] > '9' {
			return 0, false
		}
		thousandths += int(decimals[i]-'0') * unit
	}
	return thousandths, thousandths <= fullQuality
}

// cutUnquoted cuts s at the first sep outside a quoted string (RFC 9110,
// 5.6.4). An unclosed quote reaches to the end.
func cutUnquoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == sep && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// parseFormat reads one media type or short name, as it stands in _format or
// Accept. Parameters such as fhirVersion=4.0 don't matter here. The space is
// what a literal plus sign in a query decodes to.
func parseFormat(s string) (f Format, ok bool) {
	s, _, _ = strings.Cut(s, ";")
	s = strings.TrimSpace(s)
	if len(s) > len("application/fhir+json") {
		return JSON, false
	}
	switch strings.ToLower(s) {
	case "json", "text/json", "application/json",
		"application/fhir+json", "application/fhir json",
		"application/json+fhir", "application/json fhir": // DSTU2
		return JSON, true
	case "xml", "text/xml", "application/xml",
		"application/fhir+xml", "application/fhir xml",
		"application/xml+fhir", "application/xml fhir": // DSTU2
		return XML, true
	}
	return JSON, false
}
