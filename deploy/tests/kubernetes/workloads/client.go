package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func newClient() *http.Client {
	return &http.Client{
		Timeout: 60 * time.Second,
		Transport: &http.Transport{
			// The authorization server's certificate is the sidecar's to check.
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
			MaxIdleConnsPerHost: 64, DisableCompression: true,
		},
	}
}

// get sends one request and prints status, challenge and body:
//
//	get [-method M] [-header "N: V"]... URL
func get(args []string) error {
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	method := flags.String("method", http.MethodGet, "")
	header := http.Header{}
	flags.Func("header", "", func(field string) error {
		name, value, ok := strings.Cut(field, ": ")
		if !ok {
			return errors.New("want name: value")
		}
		header[name] = append(header[name], value) // as it is spelled
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := http.NewRequest(*method, flags.Arg(0), nil)
	if err != nil {
		return err
	}
	r.Header = header
	answer, err := newClient().Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Printf("%d\n%s\n%s\n", answer.StatusCode, answer.Header.Get("WWW-Authenticate"), body)
	return err
}

// dial tells whether a TCP connection can be made.
func dial(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], 10*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// tally counts what became of the requests of a load.
type tally struct {
	Sent, OK, Unavailable, OtherStatus, Connection, WrongPatient, LetThrough atomic.Int64
	mu                                                                       sync.Mutex
	first                                                                    string // trouble, for the reader
}

func (c *tally) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == "" {
		c.first = time.Now().Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	}
}

// load asks [base]/$echo with tokens of many patients and a forged patient, for a
// time, and prints a line of JSON. Every tenth request has a token that is not
// active. It fails by itself only when a response was wrong.
func load(args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	rate := flags.Int("rate", 100, "requests per second")
	seconds := flags.Int("seconds", 10, "")
	tokens := flags.Int("tokens", patients, "how many of the active tokens")
	first := flags.Int("first", 0, "and from which on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	base, count := flags.Arg(0), &tally{}
	client := newClient()
	var running sync.WaitGroup
	next := time.NewTicker(time.Second / time.Duration(*rate))
	defer next.Stop()
	for n := range *rate * *seconds {
		<-next.C
		running.Go(func() { count.ask(client, base, n, *first+n%*tokens) })
	}
	running.Wait()
	line, _ := json.Marshal(map[string]any{
		"sent": count.Sent.Load(), "ok": count.OK.Load(), "unavailable": count.Unavailable.Load(),
		"other_status": count.OtherStatus.Load(), "connection": count.Connection.Load(),
		"wrong_patient": count.WrongPatient.Load(), "let_through": count.LetThrough.Load(), "first_trouble": count.first,
	})
	fmt.Println(string(line))
	if count.WrongPatient.Load()+count.LetThrough.Load() > 0 {
		return errors.New("a response was wrong")
	}
	return nil
}

func (c *tally) ask(client *http.Client, base string, n, patient int) {
	r, err := http.NewRequest(http.MethodGet, base+"/$echo", nil)
	if err != nil {
		return
	}
	inactive := n%10 == 9
	token := activeToken(patient)
	if inactive {
		token = fmt.Sprintf("junk-%d", n)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header["X_Launch_Patient"] = []string{"forged"}
	r.Header.Set("X-Launch-Patient", "forged")
	c.Sent.Add(1)
	answer, err := client.Do(r)
	if err != nil {
		c.Connection.Add(1)
		c.note("%v", err)
		return
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		c.Connection.Add(1)
		c.note("%v", err)
	case answer.StatusCode == http.StatusServiceUnavailable || answer.StatusCode == http.StatusBadGateway:
		c.Unavailable.Add(1)
		c.note("status %d: %s", answer.StatusCode, body)
	case inactive && answer.StatusCode == http.StatusUnauthorized:
		c.OK.Add(1)
	case inactive && answer.StatusCode == http.StatusOK:
		c.LetThrough.Add(1)
		c.note("let through: %s", body)
	case answer.StatusCode != http.StatusOK:
		c.OtherStatus.Add(1)
		c.note("status %d: %s", answer.StatusCode, body)
	case saw(body) != fmt.Sprintf("p%d", patient):
		c.WrongPatient.Add(1)
		c.note("want p%d: %s", patient, body)
	default:
		c.OK.Add(1)
	}
}

// saw returns all values, joined, that the FHIR server got for the patient's
// header under any spelling.
func saw(body []byte) string {
	var echo struct{ Headers []string }
	_ = json.Unmarshal(body, &echo)
	var values []string
	for i := 0; i+1 < len(echo.Headers); i += 2 {
		if strings.EqualFold(strings.ReplaceAll(echo.Headers[i], "_", "-"), "X-Launch-Patient") {
			values = append(values, echo.Headers[i+1])
		}
	}
	return strings.Join(values, ",")
}
