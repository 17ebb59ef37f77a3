// Package doctor tries a configuration for real and says, for each failure, what the
// likely cause is and which setting to look at.
package doctor

import (
	"context"
	"fmt"
	"time"
)

const (
	// checkTimeout bounds the whole of a check: an operator waits for it.
	checkTimeout = 25 * time.Second

	// progressAfter prints the running step after this long.
	progressAfter = 1500 * time.Millisecond
)

// Doctor tries a configuration for real.
type Doctor struct{ visit visit }

// New returns a Doctor for one check.
func New(cfg Config) *Doctor { return &Doctor{visit{cfg, &findings{}}} }

// Check makes all checks, in the order in which they depend on each other.
func (d *Doctor) Check(ctx context.Context) Report {
	v := d.visit
	token := readToken(v.cfg.TokenFile, v.cfg.Stdin)
	d.run(ctx, token)
	return newReport(v.results, secretsOf(v.cfg.Settings, token.text))
}

func (d *Doctor) run(ctx context.Context, token suppliedToken) {
	v, s := d.visit, d.visit.cfg.Settings
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for _, step := range []struct {
		check, doing string
		asks         bool // somebody, which takes time
		run          func(context.Context)
	}{
		{"FHIR server", "asking the FHIR server what it is", true, upstream(v).check},
		{"discovery", "looking for the endpoints", v.cfg.Discovery != nil, documents(v).check},
		{"keys", "reading the issuer's keys", s.JWTPrecheck, documents(v).checkKeys},
		{"own credential", "getting the sidecar's own token", s.UsesGrant(), credentials(v).checkGrant},
		{"introspection", "asking about a token that nobody has", true, credentials(v).checkIntrospection},
		{"public URL", "asking what clients find at the public URL", s.PublicURL != "", published(v).checkPublicURL},
		{"SMART configuration", "", false, published(v).checkSMART},
		{"TLS", "", false, peer(v).checkTLS},
		{"certificates", "", false, local(v).checkCertificates},
		{"clock", "", false, peer(v).checkClock},
		{"policy", "", false, local(v).checkPolicy},
		{"bypass", "trying the FHIR server's port on this host's other addresses", true, local(v).checkBypass},
		{sharedCache, "trying the store that replicas share", v.cfg.Store != nil, replicas(v).check},
		{"token", "asking about the token in the file", v.cfg.TokenFile != "", tokens{v, token}.check},
	} {
		if step.asks && ctx.Err() != nil {
			v.fail(step.check, "not tried", diagnosis{fmt.Sprintf("the checks before it took all of the %v", checkTimeout), ""})
			continue
		}
		progress := time.AfterFunc(progressAfter, func() { _, _ = fmt.Fprintf(v.cfg.Stderr, "%s ...\n", step.doing) })
		step.run(ctx)
		progress.Stop()
	}
}
