package credential

import (
	"slices"
	"strings"
)

// workloadClaims are claims that only tokens of jobs, pods and machines have, at the issuers that are known for them. Some
// of these issuers have people too (GitLab), and a job chooses its audience freely. A name that ends with / stands for
// every claim that begins so.
var workloadClaims = []string{
	"job_workflow_ref", "workflow_ref", "run_id", "run_attempt", "runner_environment", // GitHub Actions
	"pipeline_id", "pipeline_source", "job_id", "ci_config_ref_uri", "runner_id", "project_path", // GitLab CI
	"kubernetes.io", "kubernetes.io/", // Kubernetes: projected tokens, and the secrets of old
	"pipeline_slug", "build_number", "step_key", // Buildkite
	"terraform_run_id", "terraform_workspace_id", // HCP Terraform
	"pipelineUuid", "stepUuid", // Bitbucket Pipelines
	"oidc.circleci.com/", "https://sts.amazonaws.com/",
}

// workloadSubjects are how their subjects begin.
var workloadSubjects = []string{"system:serviceaccount:", "system:node:", "spiffe://", "project_path:", "repo:", "organization:", "pipeline:"}

// workloadMark says what shows that a token is no person's; "" when nothing does. A client that gets a token for itself
// (RFC 6749, 4.4) is no person either: it is named as the subject, or in the way of its issuer.
func (t *signedToken) workloadMark() string {
	for name := range t.claims {
		if slices.ContainsFunc(workloadClaims, func(mark string) bool {
			return name == mark || (strings.HasSuffix(mark, "/") && strings.HasPrefix(name, mark))
		}) {
			return name
		}
	}
	text := func(claim string) string { s, _ := t.claims[claim].(string); return s }
	if t.subject != "" {
		if slices.ContainsFunc(workloadSubjects, func(mark string) bool { return strings.HasPrefix(t.subject, mark) }) {
			return "sub"
		}
		for _, claim := range slices.Concat(clientClaims, []string{"appid"}) {
			if text(claim) == t.subject {
				return "sub is " + claim
			}
		}
		if text("tid") != "" && text("oid") == t.subject { // Entra: a person's sub is another for each client
			return "sub is oid"
		}
	}
	for claim, value := range map[string]string{"idtyp": "app", "gty": "client-credentials"} { // Entra, Auth0
		if text(claim) == value {
			return claim
		}
	}
	for _, client := range clientClaims { // Keycloak
		if id := text(client); id != "" && strings.EqualFold(text("preferred_username"), "service-account-"+id) {
			return "preferred_username"
		}
	}
	if strings.HasSuffix(strings.ToLower(text("email")), ".gserviceaccount.com") { // Google
		return "email"
	}
	return ""
}
