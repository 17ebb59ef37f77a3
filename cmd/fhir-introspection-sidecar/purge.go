package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// checkAdminToken keeps an empty or broken file from becoming a token that is
// easy to guess.
func (sc *sidecar) checkAdminToken() error {
	if sc.adminToken == nil {
		return nil
	}
	token, err := readAdminToken(sc.adminToken)
	if err != nil {
		return &introspection.FieldError{Field: "AdminToken", Err: err}
	}
	if len(token) < goodAdminToken {
		sc.logger.Warn("the admin token is short enough to be guessed", "setting", "SIDECAR_ADMIN_TOKEN_FILE")
	}
	return nil
}

// goodAdminToken is the length below which an admin token gets a warning.
const goodAdminToken = 16

func readAdminToken(file introspection.File) (string, error) {
	content, err := file(false)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("must hold one token, of visible ASCII characters")
	}
	return token, nil
}

// isAdmin compares in constant time, over digests so that not even the length
// of the token shows.
func (sc *sidecar) isAdmin(r *http.Request) bool {
	want, err := readAdminToken(sc.adminToken)
	if err != nil {
		// The old token is not kept: emptying the file may be meant to withdraw it.
		sc.logger.Error("nobody is an admin until the file is mended", "setting", "SIDECAR_ADMIN_TOKEN_FILE", "error", err)
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if err != nil || len(r.Header["Authorization"]) != 1 || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(strings.TrimSpace(got)))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// purge makes the cache forget: everything, or what all filters match.
func (sc *sidecar) purge(w http.ResponseWriter, r *http.Request) {
	if !sc.isAdmin(r) {
		sc.auditPurge(r, http.StatusUnauthorized, cache.Filter{})
		sc.logger.Warn("cache purge refused")
		w.Header().Set("WWW-Authenticate", `Bearer realm="admin"`)
		writeStatus(w, http.StatusUnauthorized, map[string]any{"error": "the admin token is required"})
		return
	}
	filter, err := parseFilter(r.URL.RawQuery)
	if err == nil && r.ContentLength != 0 {
		err = errors.New("filters stand in the query; there must be no body")
	}
	if err != nil {
		sc.auditPurge(r, http.StatusBadRequest, cache.Filter{})
		writeStatus(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
		return
	}
	purged := sc.cache.Purge(filter)
	sc.auditPurge(r, http.StatusOK, filter)
	sc.logger.Info("cache purged", "purged", purged, "everything", filter == cache.Filter{})
	writeStatus(w, http.StatusOK, map[string]any{"purged": purged})
}

// parseFilter is strict: a filter that was misspelled must not purge everything.
func parseFilter(query string) (f cache.Filter, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return f, errors.New("the query can't be parsed")
	}
	for name, all := range values {
		if len(all) != 1 {
			return f, errors.New("each filter takes one value")
		}
		value := all[0]
		switch name {
		case "token_sha256":
			digest, err := hex.DecodeString(value)
			if err != nil || len(digest) != sha256.Size {
				return f, errors.New("token_sha256 must be 64 hex digits")
			}
			f.TokenSHA256 = (*[sha256.Size]byte)(digest)
		case "sub":
			f.Subject = value
		case "client_id":
			f.ClientID = value
		case "patient":
			value = strings.TrimPrefix(value, "Patient/")
			f.Patient = value
		default:
			return f, errors.New("filters are token_sha256, sub, client_id and patient")
		}
		if value == "" {
			return f, errors.New("each filter takes one value")
		}
	}
	return f, nil
}

func (sc *sidecar) auditPurge(r *http.Request, status int, filter cache.Filter) {
	if sc.audit == nil {
		return
	}
	record := proxy.AuditRecord{
		Time: time.Now().UTC(), Decision: "cache_purge", Status: status, Method: r.Method, Interaction: "unknown",
		ClientID: filter.ClientID, Subject: filter.Subject, Patient: filter.Patient,
	}
	record.Peer, _, _ = net.SplitHostPort(r.RemoteAddr) // empty for what is no address
	if filter.TokenSHA256 != nil {
		record.TokenRef = sc.cache.DigestRef(*filter.TokenSHA256)
	}
	sc.audit.Add(record)
}

// jwks publishes the key that our assertions are signed with, so that it can be
// registered by URL (RFC 7591 jwks_uri).
func (sc *sidecar) jwks(w http.ResponseWriter, r *http.Request) {
	keys, err := sc.credential.JWKS()
	if err != nil || keys == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=60")
	// A client that doesn't take its answer asks again.
	_, _ = w.Write(keys)
}
