package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// get requests url with the headers given as name, value, name, value.
func get(url string, headers ...string) (*http.Response, string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1]) // as spelt
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// contextOf returns the header lines that tell the upstream who asks.
func contextOf(head string) (lines []string) {
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		name := strings.ToLower(line)
		if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-launch-") || strings.HasPrefix(name, "authorization:") ||
			strings.HasPrefix(name, "x-forwarded-") {
			lines = append(lines, name[:strings.IndexByte(name, ':')]+line[strings.IndexByte(line, ':'):])
		}
	}
	slices.Sort(lines)
	return lines
}

// verify checks that proxies do the same job: that the upstream sees equal
// headers from all, that none lets a forged one or a bad token through, and that
// none asks about a token twice.
func verify(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: verify COUNT-URL FHIR-URL ...")
	}
	var first []string
	for _, base := range args[1:] {
		seen, err := verifyContext(args[0], base)
		if err == nil {
			err = verifyRefusals(base)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
		if first == nil {
			first = seen
		}
		if !slices.Equal(first, seen) {
			return fmt.Errorf("the upstream sees different headers:\n%s\n\n%s", strings.Join(first, "\n"), strings.Join(seen, "\n"))
		}
	}
	fmt.Println(strings.Join(first, "\n"))
	return nil
}

// verifyContext sends one token several times, along with forged headers, and
// returns the lines of its context.
func verifyContext(counter, base string) (seen []string, err error) {
	before := count(counter)
	for range 20 {
		res, head, err := get(base+"/echo", "Authorization", "Bearer "+fmt.Sprintf(tokenFormat, 500), "Accept", "application/fhir+json",
			"X-Launch-Patient", "forged", "X-Launch-Encounter", "forged", "X_Launch_User", "forged")
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK || res.Header.Get("X-Launch-Patient") != "" {
			return nil, fmt.Errorf("%s, or a context header in the response", res.Status)
		}
		if strings.Contains(head, "forged") || !strings.Contains(head, "X-Launch-Patient: p-500\r\n") {
			return nil, fmt.Errorf("wrong or forged context:\n%s", head)
		}
		// X-Forwarded-Host has the port.
		host := strings.TrimPrefix(strings.TrimSuffix(base, "/fhir"), "http://")
		seen = contextOf(strings.ReplaceAll(head, host, "proxy"))
	}
	if asked := count(counter) - before; asked != 1 {
		return nil, fmt.Errorf("20 requests with one token caused %d introspections", asked)
	}
	return seen, nil
}

func verifyRefusals(base string) error {
	good := "Bearer " + fmt.Sprintf(tokenFormat, 501)
	for _, c := range []struct {
		path    string
		status  int
		headers []string
	}{
		{"/Patient/1", http.StatusUnauthorized, nil},
		{"/Patient/1", http.StatusUnauthorized, []string{"Authorization", "Bearer bench-unknown"}},
		{"/Patient/1", http.StatusUnauthorized, []string{"Authorization", "Basic YTpi"}},
		{"/Patient/1?access_token=x", http.StatusBadRequest, []string{"Authorization", good}},
		{"//Patient/1", http.StatusBadRequest, []string{"Authorization", good}},
		{"/metadata", http.StatusOK, nil},
		{"/Patient/1", http.StatusOK, []string{"Authorization", good}},
	} {
		res, _, err := get(base+c.path, c.headers...)
		if err != nil {
			return err
		}
		if res.StatusCode != c.status {
			return fmt.Errorf("%s %v: %s, want %d", c.path, c.headers, res.Status, c.status)
		}
	}
	return nil
}

func count(url string) int {
	_, body, err := get(url)
	n, atoiErr := strconv.Atoi(strings.TrimSpace(body))
	if err != nil || atoiErr != nil {
		return -1
	}
	return n
}

// fill sends one request with each of n tokens.
func fill(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: fill FHIR-URL N")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	const workers = 8
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = workers
	failures := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				res, _, err := get(args[0]+"/Patient/1", "Authorization", "Bearer "+fmt.Sprintf(tokenFormat, i))
				if err == nil && res.StatusCode != http.StatusOK {
					err = errors.New(res.Status)
				}
				if err != nil {
					failures[w] = fmt.Errorf("token %d: %w", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(failures...)
}

// coldstart starts a command several times and prints the median time in
// milliseconds until a URL answers 200.
func coldstart(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: coldstart READY-URL TIMES COMMAND ...")
	}
	times, err := strconv.Atoi(args[1])
	if err != nil || times < 1 {
		return errors.New("TIMES must be a number above zero")
	}
	var took []time.Duration
	for range times {
		d, err := startOnce(args[0], args[2:])
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	slices.Sort(took)
	fmt.Printf("%.1f\n", float64(took[len(took)/2].Microseconds())/1000)
	return nil
}

func startOnce(url string, command []string) (time.Duration, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for time.Since(began) < 10*time.Second {
		if res, _, err := get(url); err == nil && res.StatusCode == http.StatusOK {
			return time.Since(began), nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	return 0, errors.New("not ready after 10 s")
}
