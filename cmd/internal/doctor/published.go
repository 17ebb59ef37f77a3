package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// published looks for what clients are to find.
type published visit

// maxDocument bounds what is read of a document that clients look for.
const maxDocument = 1 << 20

// checkPublicURL asks for what clients would find there. Nothing of it fails: from here
// that name may lead nowhere.
func (d published) checkPublicURL(ctx context.Context) {
	const check, setting = "public URL", "SIDECAR_PUBLIC_URL"
	s := d.cfg.Settings
	switch {
	case s.PublicURL == "":
		return
	case s.FHIRBase() == "":
		d.skip(check, setting+" has {tenant}: there is no tenant to ask about")
		return
	}
	location, want := s.PublicBase()+"/metadata", ""
	if s.ResourceMetadata == "on" {
		location, want = smart.ResourceMetadataURL(s.PublicBase()), s.PublicBase()
	}
	status, body, err := d.read(ctx, location)
	var document smart.ResourceMetadata
	switch {
	case err != nil:
		d.warn(check, "no response from "+location, diagnosis{"from here that name leads nowhere, which is no fault if it does for clients", setting})
	case status != http.StatusOK:
		d.warn(check, fmt.Sprintf("%s answers with status %d", location, status), diagnosis{"what stands in front doesn't route that path to the sidecar, or the sidecar isn't serving", setting})
	case want != "" && (json.Unmarshal(body, &document) != nil || document.Resource != want):
		d.warn(check, location+" is not the metadata of "+want, diagnosis{"what stands in front leads that path elsewhere", setting})
	default:
		d.ok(check, location+" answers")
	}
}

func (d published) read(ctx context.Context, location string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := d.cfg.FHIRClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxDocument))
	return res.StatusCode, body, err
}

// checkSMART makes the SMART configuration that would be served.
func (d published) checkSMART(context.Context) {
	const check, setting = "SMART configuration", "SIDECAR_SMART_CONFIGURATION"
	if d.cfg.SMARTConfiguration == nil {
		return
	}
	document, own := d.cfg.SMARTConfiguration()
	switch {
	case !own:
		d.ok(check, "the FHIR server has its own, which is forwarded")
	case document == nil:
		d.fail(check, "can't be made: clients get 503", diagnosis{"the issuer's metadata wasn't read, or names no token endpoint; see discovery", "SIDECAR_ISSUER_URL"})
	case smart.LacksS256(document):
		d.warn(check, "is made, and doesn't name S256 among the code challenge methods, which SMART requires",
			diagnosis{"the issuer's metadata doesn't: if apps can be launched with S256, name a launch capability", "SIDECAR_SMART_CAPABILITIES"})
	default:
		d.ok(check, "is served by the sidecar: "+d.cfg.Settings.SMARTConfiguration+" is what "+setting+" says")
	}
}
