package config

import (
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// isMember reports whether a name can be meant as that of a member: text without
// spaces and control characters.
func isMember(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '=' || r == 0x7F })
}

// checkExtraHeaders adds the headers of members that no claim stands for.
func (c *Config) checkExtraHeaders() {
	const variable = "SIDECAR_EXTRA_HEADERS"
	seen := map[string]bool{}
	for _, item := range c.ExtraHeaders {
		name, member, _ := strings.Cut(item, "=")
		err := c.rules.ExtraHeader(name)
		switch {
		case err != nil:
			c.fault(variable, "%v", err)
		case !isMember(member):
			c.fault(variable, "must be Name=claim, such as Organization=organization")
		case seen[strings.ToLower(name)]:
			c.fault(variable, "has a name twice")
		default:
			c.ExtraNames = append(c.ExtraNames, name)
			c.Decoder.Extra = append(c.Decoder.Extra, member)
		}
		seen[strings.ToLower(name)] = true
	}
}

// checkAliases reads which member stands for which claim.
func (c *Config) checkAliases() {
	const variable = "SIDECAR_CLAIM_ALIASES"
	aliases := map[introspection.Claim]string{}
	for _, item := range c.ClaimAliases {
		name, member, _ := strings.Cut(item, "=")
		claim, known := introspection.ClaimNamed(name)
		switch {
		case !isMember(member):
			c.fault(variable, "must be claim=member, such as patient=launch_response_patient")
		case !known:
			c.fault(variable, "has a claim that is not one of %s", strings.Join(introspection.ClaimNames(), " "))
		case aliases[claim] != "":
			c.fault(variable, "has a claim twice")
		}
		aliases[claim] = member
	}
	c.Decoder.Aliases = aliases
}
