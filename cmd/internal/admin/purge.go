package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// Purge is what a purge did, as it is reported.
type Purge struct {
	// Purged is how many verdicts were forgotten here.
	Purged int `json:"purged"`
	// Published says whether all other replicas will forget theirs. Nil: there is
	// no shared cache.
	Published *bool `json:"published,omitempty"`
	// Replicated says whether a second copy of the store knows of it, in case the
	// first is lost. Nil: the store has no copies.
	Replicated *bool `json:"replicated,omitempty"`
	// Warning is what an admin may not expect.
	Warning string `json:"warning,omitempty"`
}

// purger makes the cache forget: everything, or what all filters match.
type purger struct {
	token  *Token
	purge  func(context.Context, cache.Filter) Purge
	ref    func([sha256.Size]byte) string
	audit  func(proxy.AuditRecord) // nil: off
	logger *slog.Logger
}

// ServeHTTP implements http.Handler.
func (p purger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.token.authorizes(r) {
		p.record(r, http.StatusUnauthorized, cache.Filter{})
		p.logger.Warn("cache purge refused")
		w.Header().Set("WWW-Authenticate", `Bearer realm="admin"`)
		writeStatus(w, http.StatusUnauthorized, map[string]any{"error": "the admin token is required"})
		return
	}
	filter, err := parseFilter(r.URL)
	if err == nil && r.ContentLength != 0 {
		err = errors.New("filters stand in the query; there must be no body")
	}
	if err != nil {
		p.record(r, http.StatusBadRequest, cache.Filter{})
		writeStatus(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
		return
	}
	// Whoever asked may leave: half a purge is none.
	result := p.purge(context.WithoutCancel(r.Context()), filter)
	status := http.StatusOK
	if result.Published != nil && !*result.Published {
		status = http.StatusServiceUnavailable
		p.logger.Warn("purge could not be published; other replicas are told when the shared cache is back")
	}
	p.record(r, status, filter)
	p.logger.Info("cache purged", "purged", result.Purged, "everything", filter == cache.Filter{})
	writeStatus(w, status, result)
}

// parseFilter is strict: a filter that was misspelled, or a query that a template has
// left without one, must not purge everything.
func parseFilter(target *url.URL) (f cache.Filter, err error) {
	values, err := url.ParseQuery(target.RawQuery)
	if err != nil {
		return f, errors.New("the query can't be parsed")
	}
	if len(values) == 0 && (target.RawQuery != "" || target.ForceQuery) {
		return f, errors.New("the query names nothing; without a query everything is purged")
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

// record tells the audit log who purged what, and who tried to.
func (p purger) record(r *http.Request, status int, filter cache.Filter) {
	if p.audit == nil {
		return
	}
	record := proxy.AuditRecord{
		Time: time.Now().UTC(), Decision: "cache_purge", Status: status, Method: r.Method, Interaction: "unknown",
		ClientID: filter.ClientID, Subject: filter.Subject, Patient: filter.Patient,
	}
	record.Peer, _, _ = net.SplitHostPort(r.RemoteAddr) // empty for what is no address
	if filter.TokenSHA256 != nil {
		record.TokenRef = p.ref(*filter.TokenSHA256)
	}
	p.audit(record)
}
