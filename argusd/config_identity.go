package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/yamlfile"
)

// readIdentity reads ARGUS_IDENTITY_FILE. What is wrong with it is told all at once, each mistake with its line. The
// file holds no secret; who may write it decides who may call.
func readIdentity(path string) ([]credential.Issuer, []string) {
	if path == "" {
		return nil, nil
	}
	bad := func(format string, args ...any) ([]credential.Issuer, []string) {
		return nil, []string{"ARGUS_IDENTITY_FILE: " + fmt.Sprintf(format, args...)}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return bad("%s cannot be read: %v", path, reasonOf(err))
	case !info.Mode().IsRegular():
		return bad("%s is no regular file", path)
	case info.Mode().Perm()&0o002 != 0:
		return bad("%s has mode %04o, so everybody may write it and with it decide who may call: chmod o-w", path, info.Mode().Perm())
	case info.Size() > credential.MaxIdentityFile:
		return bad("%s has %d bytes, %d at most are read", path, info.Size(), credential.MaxIdentityFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return bad("%s cannot be read: %v", path, reasonOf(err))
	}
	issuers, err := credential.ReadIssuers(path, data)
	var wrong *yamlfile.Mistakes
	if errors.As(err, &wrong) {
		var found []string
		for _, mistake := range wrong.Texts() {
			found = append(found, "ARGUS_IDENTITY_FILE: "+mistake)
		}
		return nil, found
	}
	return issuers, nil
}

// set reports whether any variable of Clerk's is set. APIURL and RoleScopes have defaults, so they say nothing.
func (c ClerkConfig) set() bool {
	return c.Issuer != "" || c.SecretKey != "" || c.PublishableKey != "" || c.Organization != "" || len(c.AuthorizedParties) > 0
}

// checkIdentity: one issuer at least, and of Clerk all or nothing.
func (c apiConfig) checkIdentity(p *problems, local bool) {
	issuers, found := readIdentity(c.IdentityFile)
	*p = append(*p, found...)
	switch {
	case c.ClerkConfig.set():
		for name, missing := range map[string]bool{"ARGUS_CLERK_ISSUER": c.Issuer == "", "ARGUS_CLERK_SECRET_KEY": c.SecretKey == "",
			"ARGUS_CLERK_AUTHORIZED_PARTIES": len(c.AuthorizedParties) == 0, "ARGUS_CLERK_ORGANIZATION": c.Organization == ""} {
			if missing {
				p.add("%s is required, since other variables of Clerk's are set", name)
			}
		}
		c.ClerkConfig.check(p, local)
	case c.IdentityFile == "":
		p.add("ARGUS_CLERK_ISSUER or ARGUS_IDENTITY_FILE is required: without an issuer no one can sign in")
	}
	for _, i := range issuers {
		if i.Issuer == c.Issuer {
			p.add("ARGUS_IDENTITY_FILE: the issuer %s (%s) is Clerk's, which ARGUS_CLERK_ISSUER names", i.Name, i.Issuer)
		}
	}
}
