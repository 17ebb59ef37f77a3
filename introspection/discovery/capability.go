package discovery

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// oauthURIs is the extension that names the endpoints (SMART App Launch 1.0).
const oauthURIs = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"

// maxNesting is deeper than any CapabilityStatement.
const maxNesting = 64

var errNesting = errors.New("is nested too deeply")

// readCapabilityStatement finds rest[].security.extension[oauth-uris] and in it
// introspect and token. Everything else is skipped without being kept.
func readCapabilityStatement(r io.Reader) (Endpoints, error) {
	buffered := bufio.NewReader(r)
	for {
		c, err := buffered.ReadByte()
		if err != nil {
			return Endpoints{}, errors.New("is empty or can't be read")
		}
		if strings.IndexByte(" \t\r\n", c) >= 0 {
			continue
		}
		if err := buffered.UnreadByte(); err != nil {
			return Endpoints{}, err
		}
		if c == '<' {
			return readCapabilityXML(buffered)
		}
		return readCapabilityJSON(buffered)
	}
}

// fhirExtension is a FHIR Extension as far as it matters here.
type fhirExtension struct {
	URL       string          `json:"url"`
	ValueURI  string          `json:"valueUri"`
	ValueURL  string          `json:"valueUrl"`
	Extension []fhirExtension `json:"extension"`
}

var (
	errNotCapabilities = errors.New("is not a CapabilityStatement")
	errTwoEndpoints    = errors.New("names two endpoints where one should be")
)

// endpoints reads the extension's parts. A statement may say the same thing more
// than once, but no two things.
func (x fhirExtension) endpoints(e *Endpoints) error {
	if x.URL != oauthURIs {
		return nil
	}
	for _, part := range x.Extension {
		var named *string
		switch part.URL {
		case "introspect":
			named = &e.Introspection
		case "token":
			named = &e.Token
		default:
			continue
		}
		for _, value := range []string{part.ValueURI, part.ValueURL} {
			if value != "" && *named != "" && value != *named {
				return errTwoEndpoints
			}
			if value != "" {
				*named = value
			}
		}
	}
	return nil
}

// notCapabilities hides what a parser says, which quotes the document.
func notCapabilities(err error) error {
	if errors.Is(err, errTwoEndpoints) {
		return errTwoEndpoints
	}
	return errNotCapabilities
}

// readCapabilityJSON walks rest[].security without keeping anything else.
func readCapabilityJSON(r io.Reader) (e Endpoints, err error) {
	dec := json.NewDecoder(r)
	isStatement := false
	err = eachMember(dec, func(name string) error {
		switch name {
		case "resourceType":
			var resourceType string
			err := dec.Decode(&resourceType)
			isStatement = resourceType == "CapabilityStatement" || resourceType == "Conformance"
			return err
		case "rest":
			return eachItem(dec, func() error {
				return eachMember(dec, func(name string) error {
					if name != "security" {
						return skipJSON(dec)
					}
					var security struct {
						Extension []fhirExtension `json:"extension"`
					}
					err := dec.Decode(&security)
					for _, x := range security.Extension {
						err = errors.Join(err, x.endpoints(&e))
					}
					return err
				})
			})
		default:
			return skipJSON(dec)
		}
	})
	if err != nil || !isStatement {
		return Endpoints{}, notCapabilities(err)
	}
	return e, nil
}

func eachMember(dec *json.Decoder, value func(name string) error) error {
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errNotCapabilities
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if err := value(name); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func eachItem(dec *json.Decoder, item func() error) error {
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errNotCapabilities
	}
	for dec.More() {
		if err := item(); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// skipJSON reads past one value, token by token.
func skipJSON(dec *json.Decoder) error {
	for depth := 0; ; {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxNesting {
				return errNesting
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// xmlExtension is a FHIR Extension in XML, where values are attributes.
type xmlExtension struct {
	URL      string `xml:"url,attr"`
	ValueURI struct {
		Value string `xml:"value,attr"`
	} `xml:"valueUri"`
	ValueURL struct {
		Value string `xml:"value,attr"`
	} `xml:"valueUrl"`
	Extension []xmlExtension `xml:"extension"`
}

func (x xmlExtension) plain() fhirExtension {
	out := fhirExtension{URL: x.URL, ValueURI: x.ValueURI.Value, ValueURL: x.ValueURL.Value}
	for _, part := range x.Extension {
		out.Extension = append(out.Extension, part.plain())
	}
	return out
}

// readCapabilityXML decodes each security element below rest and keeps nothing else.
func readCapabilityXML(r io.Reader) (e Endpoints, err error) {
	dec := xml.NewDecoder(r)
	var path []string
	for {
		t, err := dec.Token()
		if err == io.EOF && len(path) == 0 { //nolint:errorlint // the decoder returns it itself
			return e, nil
		}
		if err != nil {
			return Endpoints{}, errNotCapabilities
		}
		switch t := t.(type) {
		case xml.StartElement:
			if len(path) == 0 && t.Name.Local != "CapabilityStatement" && t.Name.Local != "Conformance" || len(path) > maxNesting {
				return Endpoints{}, errNotCapabilities
			}
			if len(path) == 2 && path[1] == "rest" && t.Name.Local == "security" {
				if err := readSecurityXML(dec, &t, &e); err != nil {
					return Endpoints{}, notCapabilities(err)
				}
				continue
			}
			path = append(path, t.Name.Local)
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
}

func readSecurityXML(dec *xml.Decoder, start *xml.StartElement, e *Endpoints) error {
	var security struct {
		Extension []xmlExtension `xml:"extension"`
	}
	err := dec.DecodeElement(&security, start)
	for _, x := range security.Extension {
		err = errors.Join(err, x.plain().endpoints(e))
	}
	return err
}
