package proxy

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// words are what the documentation says about a refusal, beside what the table of
// decisions says: what happened, and what the client or the operator can do about it.
type words struct {
	happened, advice string
	brief            string // in README; empty for none
}

var refusalWords = map[*decision]words{
	refuseUnknownDocument: {"[SMART configuration](metadata.md) asked for while the issuer's metadata isn't known", "wait; operators: `SIDECAR_ISSUER_URL`", ""},
	refuseNoToken:         {"no `Authorization`, or another scheme, or only `?access_token=`", "send a bearer token in the header", "no bearer token"},
	refuseRequest:         {"two `Authorization` headers, a token in header and query, a header that can't be parsed", "send exactly one token", "two tokens, or a header that can't be parsed"},
	refuseToken: {
		"inactive or expired token; wrong kind, audience or issuer; characters that no token has; longer than `SIDECAR_MAX_TOKEN_BYTES`",
		"get a new token", "inactive, expired, of the wrong kind; of another audience or issuer than required",
	},
	refuseScope: {
		"scope lacks one of `SIDECAR_REQUIRED_SCOPES`; [scopes don't permit the interaction](scopes.md); token limited to a patient who isn't named; [URL leads to another patient](patient-guard.md)",
		"ask for the scope in the challenge; without one, another token of the same kind won't do. Operators: `reason` in the log says which, and [`check -request`](operations/check.md) why",
		"scope too small",
	},
	refuseOperation:   {"an operation that isn't listed, or a request that FHIR doesn't know, where [scopes are enforced](scopes.md)", "no scope helps; operators: `SIDECAR_OPERATIONS`, `SIDECAR_PATH_SCOPES`", ""},
	refuseTenant:      {"a token of another tenant than the path's", "use the tenant's own token", ""},
	refuseUnavailable: {"authorization server down, slow, throttling or answering nonsense; too many waiting", "wait; operators: see below", "no verdict to be had"},
	refuseCredential:  {"the sidecar's own credential is refused", "operators: see below", ""},
	refuseUpstream:    {"FHIR server refuses the connection or breaks it", "look at the FHIR server", "FHIR server down"},
	refuseTimeout:     {"FHIR server takes longer than `SIDECAR_UPSTREAM_HEADER_TIMEOUT`", "look at the FHIR server", "FHIR server too slow"},
	refuseLoop: {
		"a request that this process has forwarded before comes back (`CDN-Loop`)",
		"`SIDECAR_UPSTREAM_URL`, or the Service it names, leads to the sidecar; mend that", "",
	},
	refuseBody:           {"the client's body is malformed; over HTTP/2, `Content-Length` given twice, or no number, or without a body", "", ""},
	refuseUnexpectedBody: {"a body on a public path or a preflight", "send none", ""},
	refuseHost: {
		"`Host` that is no domain name and no address, with or without a port; over HTTP/2, none, or one that is not `:authority`",
		"names may have `_` and end with `.`; HTTP/1.0 needs none", "",
	},
	refuseField:       {"over HTTP/2, a header field that begins or ends with a space", "trim it", ""},
	refuseExpectation: {"`Expect` that is more than `100-continue`", "send `100-continue` or nothing", ""},
	refuseNotFound:    {"path outside the FHIR base", "", "outside the FHIR base"},
	refusePath: {
		"path with dot segments, `//`, `;`, `\\`, `#`, an encoded `/`, `\\`, dot or control character, or an encoding that is not UTF-8; a space in path or query (over HTTP/2)",
		"", "ambiguous path",
	},
	refuseMethod:  {"`CONNECT`, `TRACE`, `OPTIONS *`, unknown methods", "", "CONNECT, TRACE, unknown methods"},
	clientStalled: {"a request body that makes no progress for `SIDECAR_STALL_TIMEOUT`", "send on, or again", ""},
	internalError: {"a bug in the sidecar", "report it", ""},
}

// TestDocsRefusals: the tables of refusals are what the table of decisions gives.
func TestDocsRefusals(t *testing.T) {
	var all, brief strings.Builder
	all.WriteString("| what happened | status | `WWW-Authenticate` | issue code | `decision` | what to do |\n| --- | --- | --- | --- | --- | --- |\n")
	brief.WriteString("| situation | status | `WWW-Authenticate` |\n| --- | --- | --- |\n")
	for _, d := range decisions {
		if d.status == 0 || d == clientClosed {
			continue
		}
		w := refusalWords[d]
		if w.happened == "" {
			w.happened = d.text
		}
		status := strconv.Itoa(d.status)
		if d.retry {
			status += " + `Retry-After`"
		}
		short := status
		if d.closes {
			status += ", connection closed"
		}
		fmt.Fprintf(&all, "| %s | %s | %s | `%s` | `%s` | %s |\n", w.happened, status, challengeCell(d), d.issue, d.label, w.advice)
		if w.brief != "" {
			fmt.Fprintf(&brief, "| %s | %s | %s |\n", w.brief, short, challengeCell(d))
		}
	}
	spliceDocs(t, "docs/failures.md", "refusals", all.String())
	spliceDocs(t, "README.md", "refusals", brief.String())
}

func challengeCell(d *decision) string {
	switch {
	case !d.challenge:
		return ""
	case d.oauthError == "":
		return "`Bearer realm=\"fhir\"`"
	case d.scopes:
		return "`error=\"" + d.oauthError + "\"`, `scope`"
	}
	return "`error=\"" + d.oauthError + "\"`"
}

// claims and forms are what the table of headers can't say by itself.
var (
	claimWords = map[introspection.Claim]string{
		introspection.User:     "`fhirUser`, else `user`",
		introspection.ClientID: "`client_id`, else `azp`",
	}
	formWords = map[introspection.Claim]string{
		introspection.Patient:   "bare id, FHIR id grammar; `Patient/123` becomes `123`",
		introspection.Encounter: "bare id, FHIR id grammar; `Encounter/123` becomes `123`",
		introspection.Expires:   "integer seconds since 1970",
		introspection.Scope:     fmt.Sprintf("space separated; over %d KiB the header is left out, never cut", maxScopeBytes>>10),
	}
)

// TestDocsHeaders: the tables of context headers are what the proxy can set.
func TestDocsHeaders(t *testing.T) {
	var all, brief strings.Builder
	all.WriteString("| header | claim | form | on by default |\n| --- | --- | --- | --- |\n")
	brief.WriteString("| header | claim | form |\n| --- | --- | --- |\n")
	for _, header := range ContextHeaders() {
		name := http.CanonicalHeaderKey("X-Launch-" + header.Suffix)
		claim, written := claimWords[header.Claim], formWords[header.Claim]
		if claim == "" {
			claim = "`" + header.Names[0] + "`"
		}
		if written == "" {
			written = map[form]string{
				formText: "text", formArray: "JSON array of strings",
				formJSON: "one-line ASCII JSON array of objects; a string becomes `{\"reference\": …}`",
			}[header.form]
		}
		standard := "no"
		if header.Default {
			standard = "yes"
			fmt.Fprintf(&brief, "| `%s` | %s | %s |\n", name, claim, written)
		}
		fmt.Fprintf(&all, "| `%s` | %s | %s | %s |\n", name, claim, written, standard)
	}
	spliceDocs(t, "docs/headers.md", "headers", all.String())
	spliceDocs(t, "README.md", "headers", brief.String())
}

// spliceDocs compares what stands between the marks of a page with the text, or
// puts it there when the golden files are rewritten.
func spliceDocs(t *testing.T, page, marker, text string) {
	t.Helper()
	path := filepath.Join("..", filepath.FromSlash(page))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+marker+":begin -->\n", "<!-- "+marker+":end -->"
	before, rest, found := strings.Cut(string(content), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s: got no %s…%s, want them once", page, begin, end)
	}
	want := before + begin + "\n" + text + "\n" + end + after
	if want == string(content) {
		return
	}
	if !*update {
		t.Errorf("%s: the table between the marks of %q is stale; make docs rewrites it", page, marker)
		return
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
