package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// purge has the first pod forget a token, and prints after how many milliseconds none
// of the pods lets it through any more. Before, all of them must.
//
//	purge TOKEN ADMINTOKEN POD...      each an address without a port
func purge(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: purge TOKEN ADMINTOKEN POD...")
	}
	client, token, admin, pods := newClient(), args[0], args[1], args[2:]
	for _, pod := range pods {
		if status, err := statusAt(client, pod, token); err != nil || status != http.StatusOK {
			return fmt.Errorf("at %s before: got status %d, %v, want 200", pod, status, err)
		}
	}
	began := time.Now()
	if err := forget(client, pods[0], token, admin); err != nil {
		return err
	}
	for _, pod := range pods {
		for status := 0; status != http.StatusUnauthorized; time.Sleep(5 * time.Millisecond) {
			var err error
			if status, err = statusAt(client, pod, token); err != nil {
				return err
			}
			if status != http.StatusUnauthorized && time.Since(began) > 10*time.Second {
				return fmt.Errorf("at %s after 10 s: got status %d, want 401", pod, status)
			}
		}
	}
	fmt.Println(time.Since(began).Milliseconds())
	return nil
}

func forget(client *http.Client, pod, token, admin string) error {
	sum := sha256.Sum256([]byte(token))
	r, err := http.NewRequest(http.MethodDelete, "http://"+pod+":8001/cache?token_sha256="+hex.EncodeToString(sum[:]), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+admin)
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), `"published":true`) {
		return fmt.Errorf("DELETE /cache: got %d, %s, %v, want 200 and published", response.StatusCode, body, err)
	}
	return nil
}

func statusAt(client *http.Client, pod, token string) (int, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+pod+":8000/fhir/Patient", nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}
