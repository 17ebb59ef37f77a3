package proxy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestAuditEveryDecision finds one record for every request, which names
// persons and clients where there was a verdict, and holds nothing else of the
// request or the token.
func TestAuditEveryDecision(t *testing.T) {
	for i, tt := range scenarios() {
		t.Run(fmt.Sprintf("%s-%d", decisionLabels[tt.decision], i), func(t *testing.T) {
			records := make(chan AuditRecord, 10)
			s := newStack(t, func(c *Config) { c.Audit = func(r AuditRecord) { records <- r } })
			tt.prepare(s)
			if tt.abrupt {
				s.leave(tt.raw)
			} else {
				s.do(tt.raw)
			}
			if len(records) != 1 {
				t.Fatalf("%d records", len(records))
			}
			r := <-records
			if r.Decision != decisionLabels[tt.decision] || r.Status != tt.status || r.Time.IsZero() || r.RequestID == "" || r.Peer != "127.0.0.1" {
				t.Errorf("%+v", r)
			}
			verdict := tt.decision == allowed || tt.decision == upstreamError || tt.decision == insufficientScope
			if (r.Subject != "" || r.ClientID != "") != (verdict && tt.decision != insufficientScope) {
				t.Errorf("names %q %q", r.Subject, r.ClientID)
			}
			if (r.TokenRef != "") != (len(s.verdicts.asked()) > 0) {
				t.Errorf("token_ref %q", r.TokenRef)
			}
			r.ClientID, r.Subject, r.User, r.Patient = "", "", "", ""
			text, err := json.Marshal(r)
			if err != nil || strings.Contains(string(text), canary) {
				t.Errorf("%s %v", text, err)
			}
		})
	}
}
