package envoy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ebb.dev/ebb/proxy/envoy"
	"ebb.dev/ebb/proxy/ir"
)

// TestSecret: what is refused, and that a key is not printed by whatever prints its certificate.
func TestSecret(t *testing.T) {
	whole := ir.Certificate{Host: "a.test", Owner: "DomainMapping/n/a.test", Chain: []byte("chain"), Key: ir.SecretPEM("the key")}
	m, err := envoy.Secret(whole)
	if err != nil || m.GetName() != "a.test" || string(m.GetTlsCertificate().GetPrivateKey().GetInlineBytes()) != "the key" {
		t.Errorf("%v, %v", m.GetName(), err)
	}
	for want, change := range map[string]func(*ir.Certificate){
		"a host is needed":                      func(c *ir.Certificate) { c.Host = "" },
		"host -: a host is needed":              func(c *ir.Certificate) { c.Host = "-" },
		"a certificate and its key are needed":  func(c *ir.Certificate) { c.Chain = nil },
		"a certificate and its key are needed ": func(c *ir.Certificate) { c.Key = nil },
	} {
		c := whole
		change(&c)
		_, err := envoy.Secret(c)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) || !strings.Contains(err.Error(), "DomainMapping/n/a.test") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{string(text), fmt.Sprint(whole), fmt.Sprintf("%+v %#v %s %q", whole, whole, whole.Key, whole.Key)} {
		if strings.Contains(printed, "the key") || strings.Contains(printed, "dGhlIGtleQ") || strings.Contains(printed, "116 104 101") || strings.Contains(printed, "0x74, 0x68") {
			t.Errorf("the key is printed: %s", printed)
		}
	}
}
