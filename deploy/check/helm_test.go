package check

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	chartutil "helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const chartDir = root + "/deploy/helm/argus"

// given are the values that an operator must give, and with ingress.
const given = `
image: {repository: registry.example.com/argus, tag: 1.2.3}
clerk:
  issuer: https://clerk.example.com
  publishableKey: pk_live_Y2xlcmsuZXhhbXBsZS5jb20k
  organization: org_2acme
  authorizedParties: [https://ops.example.com, https://ops2.example.com]
  roleScopes: "org:admin=admin-full;org:member=logs:read tenants:read"
api: {trustedProxies: [10.8.4.0/28]}
ship: {enabled: true}
ingress: {enabled: true, host: ops.example.com, tlsSecret: ops-tls, className: nginx, annotations: {a: b}}
imagePullSecrets: [{name: registry}]
nodeSelector: {pool: audit}
tolerations: [{key: audit, operator: Exists}]
networkPolicy:
  apiFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]
  metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  postgres: {to: [{ipBlock: {cidr: 10.1.0.0/24}}]}
  clickhouse: {port: 9440, to: [{ipBlock: {cidr: 10.2.0.0/24}}]}
  receivers: [{port: 6514, to: [{ipBlock: {cidr: 10.3.0.0/24}}]}]
`

// object is a rendered Kubernetes object, decoded without any unknown or repeated field.
type object struct {
	metav1.Object
	kind string
	pod  *corev1.PodTemplateSpec // what it runs
}

func render(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	var overrides map[string]any
	if err := yaml.UnmarshalStrict([]byte(values), &overrides); err != nil {
		t.Fatal(err)
	}
	// ToRenderValues holds the values against values.schema.json.
	all, err := util.ToRenderValues(chart, overrides, chartutil.ReleaseOptions{Name: "ops", Namespace: "audit", Revision: 1, IsInstall: true},
		chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

func objects(t *testing.T, values string) map[string]object {
	t.Helper()
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]object{}
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for doc := range strings.SplitSeq(text, "\n---\n") {
			doc = strings.TrimPrefix(doc, "---\n")
			var kind metav1.TypeMeta
			if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			if kind.Kind == "" {
				continue // nothing but comments
			}
			o := decode(t, name, kind.Kind, []byte(doc))
			o.kind = kind.Kind
			id := kind.Kind + "/" + o.GetName()
			if _, twice := all[id]; twice {
				t.Errorf("%s is rendered twice", id)
			}
			all[id] = o
		}
	}
	if t.Failed() {
		t.FailNow() // what was decoded is not whole
	}
	return all
}

func decode(t *testing.T, file, kind string, doc []byte) object {
	t.Helper()
	strict := func(into any) {
		t.Helper()
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			t.Errorf("%s: %s: %v\n%s", file, kind, err, doc)
		}
	}
	switch kind {
	case "Deployment":
		var o appsv1.Deployment
		strict(&o)
		return object{Object: &o, pod: &o.Spec.Template}
	case "Job":
		var o batchv1.Job
		strict(&o)
		return object{Object: &o, pod: &o.Spec.Template}
	case "CronJob":
		var o batchv1.CronJob
		strict(&o)
		return object{Object: &o, pod: &o.Spec.JobTemplate.Spec.Template}
	case "Pod":
		var o corev1.Pod
		strict(&o)
		return object{Object: &o, pod: &corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}}
	}
	plain := map[string]metav1.Object{
		"Service": new(corev1.Service), "ServiceAccount": new(corev1.ServiceAccount), "Ingress": new(networkingv1.Ingress),
		"PodDisruptionBudget": new(policyv1.PodDisruptionBudget), "NetworkPolicy": new(networkingv1.NetworkPolicy),
	}
	if o, ok := plain[kind]; ok {
		strict(o)
		return object{Object: o}
	}
	t.Fatalf("%s: an object of kind %q", file, kind)
	return object{}
}

func TestHelmLint(t *testing.T) {
	var values map[string]any
	if err := yaml.UnmarshalStrict([]byte(given), &values); err != nil {
		t.Fatal(err)
	}
	for _, m := range lint.RunAll(chartDir, values, "audit").Messages {
		if m.Severity > support.InfoSev {
			t.Errorf("%s: %v", m.Path, m.Err)
		}
	}
}

func TestHelmPods(t *testing.T) {
	all := objects(t, given)
	var running []string
	for id, o := range all {
		if o.pod == nil {
			continue
		}
		running = append(running, id)
		spec := o.pod.Spec
		if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken || spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			t.Errorf("%s: mounts a token, or has service links, whose variables begin with the release's name", id)
		}
		s := spec.SecurityContext
		if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || *s.RunAsUser != 65532 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
			spec.HostNetwork || spec.HostPID || spec.HostIPC || len(spec.Volumes) > 1 {
			t.Errorf("%s: the pod may do more than it must", id)
		}
		if _, ok := all["ServiceAccount/"+spec.ServiceAccountName]; !ok {
			t.Errorf("%s: there is no service account %q", id, spec.ServiceAccountName)
		}
		if spec.NodeSelector["pool"] != "audit" || len(spec.Tolerations) != 1 || len(spec.ImagePullSecrets) != 1 {
			t.Errorf("%s: nodeSelector, tolerations or imagePullSecrets are missing", id)
		}
		if len(spec.Containers) != 1 {
			t.Fatalf("%s has %d containers", id, len(spec.Containers))
		}
		c := spec.Containers[0]
		cs := c.SecurityContext
		if cs == nil || *cs.AllowPrivilegeEscalation || !*cs.ReadOnlyRootFilesystem || !slices.Equal(cs.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s: the container may do more than it must", id)
		}
		if c.Image != "registry.example.com/argus:1.2.3" || len(c.Command) > 0 {
			t.Errorf("%s runs %s %v", id, c.Image, c.Command)
		}
		environ := map[string]string{}
		for _, e := range c.Env {
			if _, twice := environ[e.Name]; twice {
				t.Errorf("%s: %s is set twice", id, e.Name)
			}
			environ[e.Name] = e.Value
			if _, secret := secrets()[e.Name]; secret || e.ValueFrom != nil {
				t.Errorf("%s: the environment holds the secret %s", id, e.Name)
			}
		}
		// The secrets of the process are files that its group alone reads, under the variables' names.
		process := c.Args[len(c.Args)-1]
		if len(spec.Volumes) != 1 || len(c.VolumeMounts) != 1 || spec.Volumes[0].Secret == nil || spec.Volumes[0].Secret.SecretName != "argus-"+process ||
			*spec.Volumes[0].Secret.DefaultMode != 0o440 || !c.VolumeMounts[0].ReadOnly || c.VolumeMounts[0].Name != spec.Volumes[0].Name ||
			environ["CREDENTIALS_DIRECTORY"] != c.VolumeMounts[0].MountPath || spec.SecurityContext.FSGroup == nil || *spec.SecurityContext.FSGroup != 65532 {
			t.Errorf("%s: secrets are mounted as %+v, %+v", id, spec.Volumes, c.VolumeMounts)
		}
		delete(environ, "CREDENTIALS_DIRECTORY")
		files := map[string]string{}
		for name := range variables(t)[process] {
			if secret, ok := secrets()[name]; ok {
				files[name] = secret
			}
		}
		runs(t, id, append([]string{"/usr/local/bin/argusd"}, c.Args...), environ, files)
	}
	slices.Sort(running)
	want := []string{"CronJob/ops-argus-maintain", "Deployment/ops-argus-api", "Deployment/ops-argus-replicator", "Deployment/ops-argus-ship", "Job/ops-argus-migrate",
		"Pod/ops-argus-check-api", "Pod/ops-argus-check-maintain", "Pod/ops-argus-check-replicator", "Pod/ops-argus-check-ship"}
	if !slices.Equal(running, want) {
		t.Errorf("running: %v", running)
	}

	for _, id := range []string{"Job/ops-argus-migrate", "ServiceAccount/ops-argus-migrate", "NetworkPolicy/ops-argus-migrate"} {
		if o, ok := all[id]; !ok || o.GetAnnotations()["helm.sh/hook"] != "pre-install,pre-upgrade" {
			t.Errorf("%s is no hook before an upgrade", id)
		}
	}
	api := all["Deployment/ops-argus-api"].Object.(*appsv1.Deployment)
	c := api.Spec.Template.Spec.Containers[0]
	if c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe.HTTPGet.Path != "/readyz" || *api.Spec.Replicas < 2 || len(api.Spec.Template.Spec.TopologySpreadConstraints) != 2 {
		t.Errorf("the API: %+v", c)
	}
	if r := all["Deployment/ops-argus-replicator"].Object.(*appsv1.Deployment); *r.Spec.Replicas != 2 {
		t.Errorf("replicators: %d", *r.Spec.Replicas)
	}
	if s := all["Deployment/ops-argus-ship"].Object.(*appsv1.Deployment); *s.Spec.Replicas != 2 {
		t.Errorf("shippers: %d", *s.Spec.Replicas)
	}
	if m := all["CronJob/ops-argus-maintain"].Object.(*batchv1.CronJob); m.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent || strings.Fields(m.Spec.Schedule)[2] != "*" {
		t.Errorf("maintenance: %+v", m.Spec) // three days without look like a clock that jumped
	}
}

// TestHelmSelectors: what selects pods finds those it is for, and no other.
func TestHelmSelectors(t *testing.T) {
	all := objects(t, given)
	finds := func(id string, selector map[string]string, want ...string) {
		t.Helper()
		var found []string
		for other, o := range all {
			if o.pod != nil && labels.SelectorFromSet(selector).Matches(labels.Set(o.pod.Labels)) {
				found = append(found, other)
			}
		}
		slices.Sort(found)
		if !slices.Equal(found, want) {
			t.Errorf("%s finds %v, not %v", id, found, want)
		}
	}
	checks := []string{"Pod/ops-argus-check-api", "Pod/ops-argus-check-maintain", "Pod/ops-argus-check-replicator", "Pod/ops-argus-check-ship"}
	pods := map[string][]string{"api": {"Deployment/ops-argus-api"}, "replicator": {"Deployment/ops-argus-replicator"},
		"ship": {"Deployment/ops-argus-ship"}, "maintain": {"CronJob/ops-argus-maintain"}, "migrate": {"Job/ops-argus-migrate"}, "check": checks}
	for component, want := range pods {
		id := "NetworkPolicy/ops-argus-" + component
		policy, ok := all[id].Object.(*networkingv1.NetworkPolicy)
		if !ok {
			t.Errorf("there is no %s", id)
			continue
		}
		finds(id, policy.Spec.PodSelector.MatchLabels, want...)
		if len(policy.Spec.PolicyTypes) != 2 {
			t.Errorf("%s is for %v", id, policy.Spec.PolicyTypes)
		}
		var in, out []int32
		for _, rule := range policy.Spec.Ingress {
			if len(rule.From) == 0 {
				t.Errorf("%s lets everybody in", id)
			}
			for _, port := range rule.Ports {
				in = append(in, port.Port.IntVal)
			}
		}
		for _, rule := range policy.Spec.Egress {
			if len(rule.To) == 0 {
				t.Errorf("%s lets out to everywhere", id)
			}
			for _, port := range rule.Ports {
				out = append(out, port.Port.IntVal)
			}
		}
		wantIn := map[string][]int32{"api": {8420, 9420}, "replicator": {9421}, "ship": {9423}}[component]
		wantOut := []int32{53, 53, 5432, 9440}
		if component == "api" || component == "check" {
			wantOut = append(wantOut, 443)
		}
		switch component {
		case "ship":
			wantOut = []int32{53, 53, 5432, 6514}
		case "check":
			wantOut = append(wantOut, 6514)
		}
		if !slices.Equal(in, wantIn) || !slices.Equal(out, wantOut) {
			t.Errorf("%s: in %v, out %v", id, in, out)
		}
	}
	for _, component := range []string{"api", "replicator", "ship"} {
		d := all["Deployment/ops-argus-"+component].Object.(*appsv1.Deployment)
		finds("Deployment "+component, d.Spec.Selector.MatchLabels, pods[component]...)
		for _, spread := range d.Spec.Template.Spec.TopologySpreadConstraints {
			finds("spread of "+component, spread.LabelSelector.MatchLabels, pods[component]...)
		}
		budget := all["PodDisruptionBudget/ops-argus-"+component].Object.(*policyv1.PodDisruptionBudget)
		finds("budget of "+component, budget.Spec.Selector.MatchLabels, pods[component]...)
	}
	service := all["Service/ops-argus-api"].Object.(*corev1.Service)
	finds("Service", service.Spec.Selector, pods["api"]...)
	ports := all["Deployment/ops-argus-api"].pod.Spec.Containers[0].Ports
	if !slices.ContainsFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == service.Spec.Ports[0].TargetPort.StrVal }) {
		t.Errorf("the service leads to %v, the API has %v", service.Spec.Ports, ports)
	}
	ingress := all["Ingress/ops-argus-api"].Object.(*networkingv1.Ingress)
	backend := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
	if backend.Name != service.Name || backend.Port.Name != service.Spec.Ports[0].Name || ingress.Spec.TLS[0].Hosts[0] != "ops.example.com" {
		t.Errorf("the ingress leads to %+v", backend)
	}
}

// TestHelmValues: with what must be given alone, and without ingress and policies, it renders; what is wrong or
// misspelt is rejected by the schema.
func TestHelmValues(t *testing.T) {
	least := strings.Join([]string{
		"image: {repository: argus}",
		"clerk: {issuer: https://clerk.example.com, organization: org_2acme, authorizedParties: [https://ops.example.com]}",
		"networkPolicy: {enabled: false}"}, "\n")
	all := objects(t, least)
	for id := range all {
		if strings.HasPrefix(id, "NetworkPolicy/") || strings.HasPrefix(id, "Ingress/") || strings.Contains(id, "ship") {
			t.Errorf("%s is not wanted", id)
		}
	}
	// Without a tag the chart's appVersion is the image's.
	if image := all["Deployment/ops-argus-api"].pod.Spec.Containers[0].Image; image != "argus:dev" {
		t.Errorf("the image is %s", image)
	}
	if _, err := render(t, ""); err == nil {
		t.Error("renders without any value")
	}
	// Another issuer instead of Clerk, from a file of its own.
	issuers := "issuers:\n- name: okta\n  kind: people\n"
	without := strings.Replace(least, "clerk: {issuer: https://clerk.example.com, organization: org_2acme, authorizedParties: [https://ops.example.com]}",
		"identity: |\n  "+strings.ReplaceAll(strings.TrimSpace(issuers), "\n", "\n  "), 1)
	files, err := render(t, without)
	text := strings.Join(slices.Collect(maps.Values(files)), "\n")
	if err != nil || !strings.Contains(text, "ARGUS_IDENTITY_FILE") || !strings.Contains(text, "mountPath: /etc/argus/identity.yaml") || !strings.Contains(text, "name: okta") {
		t.Errorf("without Clerk: %v\n%s", err, text)
	}
	// APIs behind ARGUS, with the documents that their file names.
	files, err = render(t, least+"\nservices: {publicURL: 'https://ops.example.com', files: {services.yaml: \"services:\\n- name: billing\\n\", billing.openapi.yaml: 'openapi: 3.1.0'}}")
	text = strings.Join(slices.Collect(maps.Values(files)), "\n")
	if err != nil || !strings.Contains(text, "value: /etc/argus/services/services.yaml") || !strings.Contains(text, "mountPath: /etc/argus/services") ||
		!strings.Contains(text, "name: billing") || !strings.Contains(text, "billing.openapi.yaml:") || !strings.Contains(text, "ARGUS_PUBLIC_URL") {
		t.Errorf("with services: %v\n%s", err, text)
	}
	// A Deployment for each copy, which selects its own pods and no other's.
	all = objects(t, least+"\nreplicator: {copies: [east, west_coast/2]}")
	for name, copied := range map[string]string{"east": "east", "west-coast-2": "west_coast/2"} {
		d, ok := all["Deployment/ops-argus-replicator-"+name].Object.(*appsv1.Deployment)
		if !ok || d.Spec.Selector.MatchLabels["argus/copy"] != name || d.Spec.Template.Labels["argus/copy"] != name ||
			all["PodDisruptionBudget/ops-argus-replicator-"+name].Object.(*policyv1.PodDisruptionBudget).Spec.Selector.MatchLabels["argus/copy"] != name {
			t.Errorf("the replicator of %s: %+v", name, d)
			continue
		}
		for _, id := range []string{"Deployment/ops-argus-replicator-" + name, "Pod/ops-argus-check-replicator-" + name} {
			if !slices.ContainsFunc(all[id].pod.Spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == "ARGUS_COPY" && e.Value == copied }) {
				t.Errorf("%s has not the copy %s", id, copied)
			}
		}
	}
	if _, ok := all["Deployment/ops-argus-replicator"]; ok {
		t.Error("a replicator without a copy is there, too")
	}
	for _, wrong := range []string{
		"replicator: {copies: [East]}", "replicator: {copies: [east, east]}", "services: {files: {services.yaml: x}}", "services: {publicURL: 'https://ops.example.com', files: {a.yaml: x}}",
		"services: {publicURL: 'http://ops.example.com'}", "networkPolicy: {services: [{port: 8443}]}",
		"imge: {}", "api: {replicas: 0}", "ship: {replicas: 0}", "ship: {retentionDays: 30}", "networkPolicy: {receivers: [{port: 443}]}", "api: {replica: 3}", "clerk: {issuer: http://clerk.example.com}", "clerk: {organization: acme}",
		"clerk: {authorizedParties: []}", "clerk: {authorizedParties: ['https://ops.example.com/']}", "log: {level: loud}",
		"secrets: {api: 'Not A Name'}", "networkPolicy: {enabled: true}", "replicator: {slot: My-Slot}", "ingress: {enabled: true, host: ''}",
		"clerk: {publishableKey: sk_live_x}", "service: {port: 0}",
	} {
		var base, edit map[string]any
		if err := yaml.Unmarshal([]byte(least), &base); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(wrong), &edit); err != nil {
			t.Fatal(err)
		}
		for section, values := range edit {
			if have, ok := base[section].(map[string]any); ok {
				for name, value := range values.(map[string]any) {
					have[name] = value
				}
			} else {
				base[section] = values
			}
		}
		text, err := yaml.Marshal(base)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := render(t, string(text)); err == nil {
			t.Errorf("taken: %s", wrong)
		}
	}
}

// TestHelmFiles: the chart has no file that is rendered nowhere.
func TestHelmFiles(t *testing.T) {
	files, err := render(t, given)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(chartDir, "templates"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		relative, err := filepath.Rel(chartDir, path)
		if err != nil {
			return err
		}
		// What begins with _ is what the others include.
		if strings.TrimSpace(files["argus/"+relative]) == "" && !strings.HasPrefix(d.Name(), "_") {
			return fmt.Errorf("%s renders nothing", relative)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if notes := files["argus/templates/NOTES.txt"]; !strings.Contains(notes, "helm test ops --namespace audit") || !strings.Contains(notes, "https://ops.example.com/") {
		t.Errorf("notes:\n%s", notes)
	}
}
