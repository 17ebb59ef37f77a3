package interop

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what was seen into the table of docs/guides/authorization-servers.md")

// authority is an introspection endpoint that is asked without a sidecar.
type authority struct {
	t         *testing.T
	name      string // as in the table of the guide
	endpoint  string
	authorize func(*http.Request) // adds a good credential
	seen      map[string]string   // row of the table, and what was seen
}

// ask asks about a token and returns the response and its JSON.
func (a *authority) ask(token string, authorize func(*http.Request)) (res response, body object) {
	a.t.Helper()
	form := url.Values{}
	if token != "" {
		form.Set("token", token)
	}
	req := request(a.t, http.MethodPost, a.endpoint, form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json")
	if authorize != nil {
		authorize(req)
	}
	res = send(a.t, req)
	_ = json.Unmarshal([]byte(res.body), &body)
	return res, body
}

// sums up a response in a few words.
func (a *authority) sums(res response, body object) string {
	text := fmt.Sprint(res.status)
	if body == nil {
		return text + ", no JSON"
	}
	if said, ok := body["error"].(string); ok {
		return text + " `" + said + "`"
	}
	if active, ok := body["active"].(bool); !ok || !active {
		return text + " inactive"
	}
	text += " active"
	for _, name := range []string{"typ", "token_type", "token_use"} {
		if kind, ok := body[name].(string); ok {
			text += ", `" + name + "` " + kind
		}
	}
	return text
}

// look fills the table: every row that is asked of each server.
func (a *authority) look(access, refresh, id string) {
	a.t.Helper()
	a.seen = map[string]string{"a refresh token": "not issued", "an ID token": "not issued"}
	row := func(name, token string, authorize func(*http.Request)) object {
		res, body := a.ask(token, authorize)
		a.seen[name] = a.sums(res, body)
		return body
	}
	body := row("an access token", access, a.authorize)
	a.seen["`aud` of it"] = form(body["aud"])
	a.seen["launch claims"] = "top level"
	if _, ok := body["patient"]; !ok {
		if ext, ok := body["ext"].(object); ok && ext["patient"] != nil {
			a.seen["launch claims"] = "below `ext`"
		} else {
			a.seen["launch claims"] = "none"
		}
	}
	row("an unknown token", "an-unknown-token", a.authorize)
	row("no token", "", a.authorize)
	row("no credential", access, nil)
	row("a wrong credential", access, func(r *http.Request) { r.SetBasicAuth("nobody", "nothing") })
	row("a bearer it doesn't know", access, func(r *http.Request) { r.Header.Set("Authorization", "Bearer nobody") })
	if refresh != "" {
		row("a refresh token", refresh, a.authorize)
	}
	if id != "" {
		row("an ID token", id, a.authorize)
	}
	res, _ := a.ask(access, a.authorize)
	a.seen["`Date` header"] = map[bool]string{true: "yes", false: "no"}[res.header.Get("Date") != ""]
	a.compare()
}

// form tells of which form a member is.
func form(value any) string {
	switch value := value.(type) {
	case nil:
		return "absent"
	case string:
		return "string"
	case []any:
		if len(value) == 0 {
			return "empty array"
		}
		return "array"
	}
	return fmt.Sprintf("%T", value)
}

const table = "../../../docs/guides/authorization-servers.md"

// compare holds what was seen against the server's column in the guide.
func (a *authority) compare() {
	a.t.Helper()
	page, err := os.ReadFile(table)
	if err != nil {
		a.t.Fatal(err)
	}
	lines := strings.Split(string(page), "\n")
	column, rows := 0, 0
	for i, line := range lines {
		cells := strings.Split(strings.TrimSuffix(line, "|"), "|")
		name := strings.TrimSpace(cells[min(1, len(cells)-1)])
		if name == "asked about" {
			column = slices.IndexFunc(cells, func(cell string) bool { return strings.TrimSpace(cell) == a.name })
		}
		want, asked := a.seen[name]
		if !asked || column < 1 {
			continue
		}
		rows++
		if got := strings.TrimSpace(cells[column]); got != want && !*update {
			a.t.Errorf("%s, %s: the guide says %q, it is %q", a.name, name, got, want)
		}
		cells[column] = " " + want + " "
		lines[i] = strings.Join(cells, "|") + "|"
	}
	if rows != len(a.seen) {
		a.t.Errorf("rows of %s in the guide: got %d, want %d", a.name, rows, len(a.seen))
	}
	if *update {
		if err := os.WriteFile(table, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			a.t.Fatal(err)
		}
	}
}
