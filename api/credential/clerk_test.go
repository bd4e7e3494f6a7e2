package credential

import "testing"

// TestClerkConfiguration: what would open a hole does not start.
func TestClerkConfiguration(t *testing.T) {
	good := ClerkConfig{Issuer: "https://clerk.example.com", SecretKey: "sk", APIURL: "https://api.clerk.com/v1",
		AuthorizedParties: []string{"https://ops.example.com"}, Organization: "org_1", PublishableKey: "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(c *ClerkConfig){
		"no organization":      func(c *ClerkConfig) { c.Organization = "" },
		"no authorized party":  func(c *ClerkConfig) { c.AuthorizedParties = nil },
		"any authorized party": func(c *ClerkConfig) { c.AuthorizedParties = []string{"*"} },
		"party with a path":    func(c *ClerkConfig) { c.AuthorizedParties = []string{"https://ops.example.com/"} },
		"issuer over http":     func(c *ClerkConfig) { c.Issuer = "http://clerk.example.com" },
		"issuer on loopback":   func(c *ClerkConfig) { c.Issuer = "http://127.0.0.1:8421" },
		"API over http":        func(c *ClerkConfig) { c.APIURL = "http://api.clerk.com/v1" },
		"local but elsewhere":  func(c *ClerkConfig) { c.Local = true },
		"no secret key":        func(c *ClerkConfig) { c.SecretKey = "" },
		"issuer with a user":   func(c *ClerkConfig) { c.Issuer = "https://a:b@clerk.example.com" },
		"issuer is no URL":     func(c *ClerkConfig) { c.Issuer = "clerk" },
		"issuer with a query":  func(c *ClerkConfig) { c.Issuer = "https://clerk.example.com?x" },
		"local, another's name": func(c *ClerkConfig) {
			c.Local, c.Issuer, c.APIURL = true, "http://localhost:1", "http://localhost:1/v1"
		},
	} {
		c := good
		edit(&c)
		if c.check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
