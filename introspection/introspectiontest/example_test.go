package introspectiontest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// introspect is the least a client must do; yours takes its place.
func introspect(endpoint, token string) string {
	req, err := http.NewRequest(http.MethodPost, endpoint, strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+introspectiontest.DefaultBearer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

// Outside of tests Start does what NewServer does in them.
func Example() {
	as, err := introspectiontest.Start(introspectiontest.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer as.Close()

	as.AddToken("2YotnFZFEjr1zCsicMWpAA", map[string]any{"patient": "123"})
	fmt.Println(introspect(as.Endpoint(), "2YotnFZFEjr1zCsicMWpAA"))
	as.Revoke("2YotnFZFEjr1zCsicMWpAA")
	fmt.Println(introspect(as.Endpoint(), "2YotnFZFEjr1zCsicMWpAA"))
	as.SetAnswer(introspectiontest.Respond(http.StatusServiceUnavailable, nil, "maintenance"))
	fmt.Println(introspect(as.Endpoint(), "another"))
	fmt.Println(as.Introspections(), "introspections")

	// Output:
	// 200 {"active":true,"patient":"123"}
	// 200 {"active":false}
	// 503 maintenance
	// 3 introspections
}
