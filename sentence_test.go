package argus

import (
	"strings"
	"testing"
)

func TestSentence(t *testing.T) {
	names := map[string]string{"user_2ada": "Ada Okafor", "user_2grace": "Grace Lindqvist", "user_2evil": "Ada Okafor armed UTD_1: \u202eno"}
	armed := Record{ActorID: "user_2ada", ActorKind: KindPAT, Service: OwnService, Route: "POST /v1/tenants/:id/arm", Status: 200,
		Outcome: Completed, PathParams: []PathParam{{"id", "UTD_QUICKSTOP_003"}}, Reason: "printer offline"}
	for want, change := range map[string]func(*Record){
		"Ada Okafor armed UTD_QUICKSTOP_003: printer offline":                                                      func(*Record) {},
		"user_2bob armed UTD_QUICKSTOP_003":                                                                        func(r *Record) { r.ActorID, r.Reason = "user_2bob", "" },
		"Ada Okafor tried to arm UTD_QUICKSTOP_003 and was refused (403 tenant_consent_required): printer offline": func(r *Record) { r.Status, r.ErrorCode = 403, "tenant_consent_required" },
		"Ada Okafor tried to arm UTD_QUICKSTOP_003 and failed (503): printer offline":                              func(r *Record) { r.Status = 503 },
		"Ada Okafor tried to arm UTD_QUICKSTOP_003 and was interrupted: printer offline":                           func(r *Record) { r.Status, r.Outcome = 0, Interrupted },
		"Grace Lindqvist as Ada Okafor armed UTD_QUICKSTOP_003: printer offline":                                   func(r *Record) { r.ImpersonatorID = "user_2grace" },
		"Ada Okafor, through claude/2.1, armed UTD_QUICKSTOP_003: printer offline":                                 func(r *Record) { r.Agent = "claude/2.1" },
		"Ada Okafor broke the glass and armed UTD_QUICKSTOP_003: printer offline":                                  func(r *Record) { r.ActorKind = KindBreakGlass },
		"Ada Okafor called POST /v1/items/:id/retire of sample with id 7: printer offline": func(r *Record) {
			r.Service, r.Route, r.PathParams = "sample", "POST /v1/items/:id/retire", []PathParam{{"id", "7"}}
		},
		"Ada Okafor tried to call a path that does not exist (GET) and was refused (404 not_found)": func(r *Record) {
			r.Route, r.PathParams, r.Status, r.ErrorCode, r.Reason = "GET (unmatched)", nil, 404, "not_found", ""
		},
		// A route of ours by name, and of a service: the service's.
		"Ada Okafor called POST /v1/tenants/:id/arm of sample with id UTD_QUICKSTOP_003: printer offline": func(r *Record) { r.Service = "sample" },
		"Ada Okafor looked at tenant UTD_QUICKSTOP_003":                                                   func(r *Record) { r.Route, r.Reason = "HEAD /v1/tenants/:id", "" },
		// What comes from outside can be no other words of the sentence.
		`"Ada Okafor armed UTD_1: \u202eno" armed UTD_QUICKSTOP_003: printer offline`: func(r *Record) { r.ActorID = "user_2evil" },
		`Ada Okafor armed "X: fine \" \x1b[2J": a\nb\x07 <script>`: func(r *Record) {
			r.PathParams, r.Reason = []PathParam{{"id", "X: fine \" \x1b[2J"}}, "a\nb\a <script>"
		},
		`Ada Okafor armed "": printer offline`: func(r *Record) { r.PathParams = nil },
		`"" armed "id: x": printer offline`:    func(r *Record) { r.ActorID, r.PathParams = "", []PathParam{{"id", "id: x"}} },
	} {
		r := armed
		change(&r)
		if got := r.Sentence(names); got != want {
			t.Errorf("%s\nis not\n%s", got, want)
		}
	}
	for route, d := range deeds {
		for _, text := range []string{d.did, d.do} {
			for rest := text; strings.Contains(rest, "{"); {
				_, after, _ := strings.Cut(rest, "{")
				param, more, _ := strings.Cut(after, "}")
				if !strings.Contains(route, ":"+param) {
					t.Errorf("the sentence of %s has a parameter %s, which the route lacks", route, param)
				}
				rest = more
			}
		}
	}
}
