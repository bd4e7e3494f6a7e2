package credential

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/useargus/argus"
)

// shown are the files of one kind that a page of docs/identity shows, whole.
func shown(t *testing.T, page, kind string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/identity", page))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for part := range strings.SplitSeq(string(text), "<!-- tested: "+kind+" -->\n```yaml\n") {
		if file, _, ok := strings.Cut(part, "\n```"); ok && len(part) < len(text) && !strings.HasPrefix(part, "# ") {
			files = append(files, file+"\n")
		}
	}
	if len(files) == 0 {
		t.Fatalf("%s shows no %s", page, kind)
	}
	return files
}

// TestSetUps: the API's own decoder takes the files that the pages show, and they fit together. They let in the tokens that
// the issuers' own documents describe, and no others.
func TestSetUps(t *testing.T) {
	issuer := func(page string) *identity {
		t.Helper()
		issuers, found := ReadIssuers("f", []byte(shown(t, page, "identity file")[0]))
		if found != nil || len(issuers) != 1 {
			t.Fatalf("%s: %v", page, found)
		}
		return &identity{Issuer: issuers[0]}
	}
	decode := func(page, kind string, into any) {
		t.Helper()
		decoder := yaml.NewDecoder(strings.NewReader(shown(t, page, kind)[0]))
		decoder.KnownFields(true)
		if err := decoder.Decode(into); err != nil {
			t.Fatalf("%s, %s: %v", page, kind, err)
		}
	}
	// may is what a workload's claims give.
	may := func(i *identity, claims map[string]any) (actor string, scopes []argus.Scope) {
		for _, rule := range i.Rules {
			if _, ok := rule.match(&signedToken{claims: claims}); ok {
				return rule.Actor, rule.Scopes
			}
		}
		return "", nil
	}
	check := func(page string, i *identity, good map[string]any, actor string, changes map[string]any) {
		t.Helper()
		if got, scopes := may(i, good); got != actor || !slices.Contains(scopes, argus.ScopeComputeWrite) {
			t.Errorf("%s: the described token is %q with %v", page, got, scopes)
		}
		for claim, value := range changes {
			changed := map[string]any{}
			for k, v := range good {
				changed[k] = v
			}
			changed[claim] = value
			if got, scopes := may(i, changed); got == actor || slices.Contains(scopes, argus.ScopeComputeWrite) {
				t.Errorf("%s: with %s = %v it is %q with %v", page, claim, value, got, scopes)
			}
		}
	}

	keycloak := issuer("keycloak.md")
	p, err := keycloak.read(&signedToken{claims: map[string]any{"sub": "f1", "name": "Ada", "email": "ada@example.com", "groups": []any{"sre", "others"}}})
	if err != nil || p.id != "keycloak:f1" || !slices.Equal(keycloak.scopesOf(p.groups), argus.ExpandScopes([]argus.Scope{"admin-full"})) || keycloak.UsesIDToken() {
		t.Errorf("Keycloak: %+v, %v", p, err)
	}

	// https://docs.github.com/actions/reference/security/oidc
	github := issuer("github-actions.md")
	check("github-actions.md", github, map[string]any{"repository": "acme/fleet", "ref": "refs/heads/main", "environment": "production", "run_id": "1", "sub": "x"}, "deploy-bot",
		map[string]any{"repository": "acme/other", "ref": "refs/heads/feature", "environment": "staging"})
	var workflow struct {
		Name        string
		On          any
		Permissions map[string]string
		Jobs        map[string]struct {
			RunsOn      string `yaml:"runs-on"`
			Environment string
			Env         map[string]string
			Steps       []struct{ Name, Run string }
		}
	}
	decode("github-actions.md", "github workflow", &workflow)
	if job := workflow.Jobs["deploy"]; workflow.Permissions["id-token"] != "write" || job.Environment != github.Rules[0].When["environment"] ||
		job.Env["ARGUS_URL"] != github.Audience {
		t.Errorf("the workflow does not fit the file: %+v", workflow)
	}

	// https://docs.gitlab.com/ci/secrets/id_token_authentication
	gitlab := issuer("gitlab.md")
	check("gitlab.md", gitlab, map[string]any{"project_path": "acme/fleet", "ref": "main", "ref_type": "branch", "ref_protected": "true", "pipeline_id": "1"}, "deploy-bot",
		map[string]any{"project_path": "acme/fork", "ref": "feature", "ref_protected": "false"})
	var pipeline map[string]struct {
		Rules     []map[string]string
		IDTokens  map[string]struct{ Aud string } `yaml:"id_tokens"`
		Variables map[string]string
		Script    []string
	}
	decode("gitlab.md", "gitlab pipeline", &pipeline)
	if job := pipeline["deploy"]; job.IDTokens["ARGUS_ID_TOKEN"].Aud != gitlab.Audience || job.Variables["ARGUS_URL"] == "" {
		t.Errorf("the pipeline does not fit the file: %+v", pipeline)
	}

	// https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin
	cluster := issuer("kubernetes.md")
	claims := func(namespace, account string) map[string]any {
		return map[string]any{"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": account}}, "sub": "system:serviceaccount:" + namespace + ":" + account}
	}
	check("kubernetes.md", cluster, claims("fleet", "scaler"), "scaler", map[string]any{"kubernetes.io": claims("other", "scaler")["kubernetes.io"]})
	check("kubernetes.md", cluster, claims("fleet", "scaler"), "scaler", map[string]any{"kubernetes.io": claims("fleet", "default")["kubernetes.io"]})
	var pod struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name, Namespace string }
		Spec       struct {
			ServiceAccountName           string `yaml:"serviceAccountName"`
			AutomountServiceAccountToken bool   `yaml:"automountServiceAccountToken"`
			Containers                   []struct {
				Name, Image  string
				Command      []string
				Env          []struct{ Name, Value string }
				VolumeMounts []struct {
					Name     string
					Path     string `yaml:"mountPath"`
					ReadOnly bool   `yaml:"readOnly"`
				} `yaml:"volumeMounts"`
			}
			Volumes []struct {
				Name      string
				Projected struct {
					Sources []struct {
						ServiceAccountToken struct {
							Path, Audience    string
							ExpirationSeconds int `yaml:"expirationSeconds"`
						} `yaml:"serviceAccountToken"`
					}
				}
			}
		}
	}
	decode("kubernetes.md", "kubernetes pod", &pod)
	token := pod.Spec.Volumes[0].Projected.Sources[0].ServiceAccountToken
	where := pod.Spec.Containers[0].VolumeMounts[0].Path + "/" + token.Path
	if token.Audience != cluster.Audience || where != "/var/run/secrets/argus/token" || pod.Metadata.Namespace != cluster.Rules[0].When["/kubernetes.io/namespace"] ||
		pod.Spec.ServiceAccountName != cluster.Rules[0].When["/kubernetes.io/serviceaccount/name"] {
		t.Errorf("the pod does not fit the file: %+v", pod)
	}
	var binding struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		RoleRef    struct {
			APIGroup   string `yaml:"apiGroup"`
			Kind, Name string
		} `yaml:"roleRef"`
		Subjects []struct {
			APIGroup   string `yaml:"apiGroup"`
			Kind, Name string
		}
	}
	decode("kubernetes.md", "kubernetes binding", &binding)
	if binding.RoleRef.Name != "system:service-account-issuer-discovery" || binding.Subjects[0].Name != "system:unauthenticated" {
		t.Errorf("%+v", binding)
	}
}
