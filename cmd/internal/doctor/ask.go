package doctor

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
)

// asker asks as the sidecar would, or with one thing changed.
type asker visit

// ask introspects a token without the pre-check, which may refuse it unasked.
func (d asker) ask(ctx context.Context, credential *credential.Credential, token string) error {
	client, err := client.New(client.Config{
		Endpoint:   func() string { return d.cfg.Endpoints().Introspection },
		Credential: credential, HTTPClient: d.cfg.HTTPClient,
		Timeout: d.cfg.Settings.IntrospectionTimeout, MaxConcurrent: 1,
	})
	if err != nil {
		return err
	}
	_, err = client.Introspect(ctx, introspection.Request{Token: token})
	return err
}

// accepted asks about a random token with a credential that was changed.
func (d asker) accepted(ctx context.Context, change func(*credential.Config)) bool {
	credential, err := d.changed(change)
	if err == nil && credential.Ready() != nil {
		err = credential.Obtain(ctx)
	}
	return err == nil && errors.Is(d.ask(ctx, credential, randomJWT(d.cfg.Settings.IssuerURL)), introspection.ErrInactive)
}

// obtains asks the token endpoint with a credential that was changed.
func (d asker) obtains(ctx context.Context, change func(*credential.Config)) bool {
	credential, err := d.changed(change)
	return err == nil && credential.Obtain(ctx) == nil
}

func (d asker) changed(change func(*credential.Config)) (*credential.Credential, error) {
	config := d.cfg.CredentialConfig
	config.Registerer = nil // the one that was refused is registered
	change(&config)
	return credential.New(config)
}

// randomJWT is shaped like a JWT of the issuer. Nobody signed it.
func randomJWT(issuer string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS384","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"iss":%q,"aud":"check","jti":%q}`, issuer, rand.Text())) + "." + encode([]byte(rand.Text()))
}

// reasonOf leaves out that the endpoint is unavailable: the status or the
// network's own words say more.
func reasonOf(err error) string {
	var failure *introspection.Failure
	if errors.As(err, &failure) && failure.Reason != "" && errors.Is(err, introspection.ErrUnavailable) {
		return failure.Reason
	}
	return err.Error()
}
