package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Exceptions of ClickHouse that are rejections.
const (
	chReadonly     = 164 // READONLY
	chTooBigAST    = 168 // TOO_BIG_AST: the start profile takes no query
	chUnknownUser  = 192 // UNKNOWN_USER
	chWrongUser    = 193 // WRONG_PASSWORD
	chRequired     = 194 // REQUIRED_PASSWORD
	chProhibited   = 392 // QUERY_IS_PROHIBITED
	chFunction     = 446 // FUNCTION_NOT_ALLOWED
	chConstraint   = 452 // SETTING_CONSTRAINT_VIOLATION
	chAccess       = 497 // ACCESS_DENIED
	chAuth         = 516 // AUTHENTICATION_FAILED
	chIPNotAllowed = 195 // IP_ADDRESS_NOT_ALLOWED
	chOversized    = 62  // SYNTAX_ERROR, which a statement too long for the start profile becomes
	chSessions     = 700 // USER_SESSION_LIMIT_EXCEEDED: the one session that the user may have is taken
)

// chEverybody are exceptions of what the server does for no user: UNSUPPORTED_METHOD, NOT_IMPLEMENTED, backups to files
// without a folder for them, SUPPORT_IS_DISABLED, INTO_OUTFILE_NOT_ALLOWED.
var chEverybody = []int{1, 48, 318, 344, 358}

var chRejections = []int{chReadonly, chProhibited, chFunction, chConstraint, chAccess, chAuth, chUnknownUser, chWrongUser, chRequired, chIPNotAllowed}

// chUser is who speaks to ClickHouse.
type chUser struct{ name, user, password string }

// chException is what ClickHouse answered instead of a result.
type chException struct {
	code int
	text string
}

func (e *chException) Error() string { return fmt.Sprintf("exception %d: %s", e.code, e.text) }

// chHTTP is ClickHouse's HTTP address, without a user.
func (t *target) chHTTP() (*url.URL, error) {
	u, err := url.Parse(t.env["ARGUS_CLICKHOUSE_HTTP_URL"])
	if err != nil {
		return nil, errors.New("ARGUS_CLICKHOUSE_HTTP_URL cannot be read")
	}
	u.User, u.RawQuery = nil, ""
	return u, nil
}

// ch runs a statement over HTTP.
func (t *target) ch(ctx context.Context, as chUser, sql string, parameters ...string) (string, error) {
	u, err := t.chHTTP()
	if err != nil {
		return "", err
	}
	query := url.Values{"default_format": {"TSV"}}
	for i := 0; i+1 < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
	}
	u.RawQuery = query.Encode()
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	if as.user != "" {
		req.Header.Set("X-ClickHouse-User", as.user)
		req.Header.Set("X-ClickHouse-Key", as.password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if code, _ := strconv.Atoi(resp.Header.Get("X-ClickHouse-Exception-Code")); code != 0 {
		return "", &chException{code, string(body)}
	}
	if m := chInline.FindStringSubmatch(string(body)); m != nil { // after the headers
		code, _ := strconv.Atoi(m[1])
		return "", &chException{code, m[0]}
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %d %.200s", resp.StatusCode, body)
	}
	return string(body), err
}

var chInline = regexp.MustCompile(`Code: (\d+)\. DB::Exception.*`)

// chRejected is nil when ClickHouse rejected with one of the exceptions.
func chRejected(err error, codes ...int) error {
	var e *chException
	switch {
	case err == nil:
		return errTaken
	case errors.As(err, &e) && slices.Contains(codes, e.code):
		return nil
	}
	return err
}

func (t *target) chAdmin() chUser {
	return chUser{"admin", "argus_migrate", t.passwords["clickhouse/argus_migrate"]}
}

// chThieves are those who speak to ClickHouse: a client without a user, and each user that is not the administrator.
func (t *target) chThieves() []chUser {
	all := []chUser{{"anonymous", "", ""}, {"default", "default", ""}}
	for name, password := range t.passwords {
		if user, ok := strings.CutPrefix(name, "clickhouse/"); ok && user != "argus_migrate" {
			all = append(all, chUser{user, user, password})
		}
	}
	slices.SortFunc(all, func(a, b chUser) int { return strings.Compare(a.name, b.name) })
	return all
}

// anonymous reports whether the user has no password. What the embedded server must let in is held by a bound of its
// profile that no query is small enough for.
func (u chUser) anonymous() bool { return u.password == "" }

func (u chUser) rejections() []int {
	if u.anonymous() {
		return append(slices.Clone(chRejections), chTooBigAST, chSessions)
	}
	return chRejections
}

// harmless are table functions that read no file and open no connection.
var harmless = []string{"numbers", "numbers_mt", "zeros", "zeros_mt", "values", "null", "generateRandom", "generateSeries", "generate_series", "format", "view", "viewExplain", "viewIfPermitted",
	"input", "primes", "fuzzJSON", "SQLStandardValues", "eval", "loop", "merge", "timeSeriesSelector", "timeSeriesMetrics", "timeSeriesTags", "timeSeriesSamples", "timeSeriesData",
	"prometheusQuery", "prometheusQueryRange", "fuzzQuery", "dictionary",
	// These read tables by their names, which SELECT grants.
	"mergeTreeIndex", "mergeTreeProjection", "mergeTreeTextIndex", "mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID"}

// arguments that a table function may take; the first form that is well formed for the administrator is tried.
func arguments(name string) []string {
	lower := strings.ToLower(name)
	const here = "'http://127.0.0.1:1/bucket/k.csv'"
	switch {
	case strings.Contains(lower, "local"), name == "file", name == "sqlite":
		return []string{"'/etc/passwd', 'LineAsString', 'a String'", "'/etc/passwd'", "'attack.db', 't'", "'c', '/etc/passwd', 'LineAsString', 'a String'"}
	case name == "fileCluster":
		return []string{"'default', '/etc/passwd', 'LineAsString', 'a String'"}
	case strings.HasSuffix(name, "Cluster") && strings.Contains(lower, "azure"), name == "urlCluster", strings.HasSuffix(name, "Cluster"):
		return []string{"'default', " + here + ", 'CSV', 'a String'", "'default', " + here, "'default', 'hdfs://127.0.0.1:1/x', 'CSV', 'a String'", "'default', 'http://127.0.0.1:1', 'c', 'k.csv', 'u', 'cA==', 'CSV', 'auto', 'a String'"}
	case strings.Contains(lower, "azure"):
		return []string{"'http://127.0.0.1:1', 'c', 'k.csv', 'u', 'cA==', 'CSV', 'auto', 'a String'", "'http://127.0.0.1:1', 'c', 'k', 'u', 'cA=='", here}
	case strings.Contains(lower, "hdfs"):
		return []string{"'hdfs://127.0.0.1:1/x', 'CSV', 'a String'", "'hdfs://127.0.0.1:1/x'"}
	}
	return map[string][]string{
		"remote": {"'127.0.0.1:1', 'system', 'one'"}, "remoteSecure": {"'127.0.0.1:1', 'system', 'one'"}, "cluster": {"'default', 'system', 'one'"}, "clusterAllReplicas": {"'default', 'system', 'one'"},
		"mysql": {"'127.0.0.1:1', 'd', 't', 'u', 'p'"}, "postgresql": {"'127.0.0.1:1', 'd', 't', 'u', 'p'"}, "mongodb": {"'127.0.0.1:1', 'd', 'c', 'u', 'p', 'a String'"}, "redis": {"'127.0.0.1:1', 'k', 'k String, v String'"},
		"jdbc": {"'jdbc:x', 'd', 't'"}, "odbc": {"'DSN=x', 'd', 't'"}, "executable": {"'id', 'CSV', 'a String'"}, "filesystem": {"'/etc'", ""}, "ytsaurus": {"'http://127.0.0.1:1', '//t', 'x', 'a String'"},
	}[name]
}

func (g *group) chColumn(sql string) []string {
	out, err := g.ch(g.ctx, g.chAdmin(), sql)
	g.need(err)
	return strings.Fields(out)
}

// malformed are exceptions of a call that no user can make: none of them shows a rejection.
var malformed = []int{36, 42, 43, 44, 46, 47, 60, 62, 70, 79, 81, 115, 344, 701}

// dangerous are the table functions that read files, run programs or open connections in each ClickHouse, and that are
// tried in more than one statement.
var dangerous = []string{"file", "url", "s3", "remote", "remoteSecure", "mysql", "postgresql", "mongodb", "redis", "hdfs", "azureBlobStorage", "executable", "odbc", "jdbc", "iceberg", "deltaLake", "filesystem"}

// copyFunctions calls, as each user of ClickHouse and without a user, every function that reads a file, opens a connection,
// runs a program or tells of the server.
func (g *group) copyFunctions() {
	names := g.chColumn("SELECT name FROM system.table_functions ORDER BY name")
	g.control("the server knows table functions", func() error {
		if len(names) < 20 || !contains(names, "file") {
			return fmt.Errorf("%v", names)
		}
		return nil
	})
	g.control("the administrator lists a folder", func() error {
		_, err := g.ch(g.ctx, g.chAdmin(), "SELECT count() FROM file('*', 'One', 'a UInt8') SETTINGS max_execution_time = 2")
		if e := (*chException)(nil); errors.As(err, &e) && e.code != chAccess { // there may be nothing in it
			err = nil
		}
		return err
	})
	for _, who := range g.chThieves() {
		for _, name := range names {
			if contains(harmless, name) {
				continue
			}
			call, seen := g.chTry(who, name)
			if seen == errSkipped {
				continue
			}
			g.record(who.name+": SELECT FROM "+call, seen)
			if !contains(dangerous, name) || g.config.Short && name != "file" && name != "url" {
				continue
			}
			for _, form := range []string{"DESCRIBE TABLE %s", "INSERT INTO FUNCTION %s SELECT 'x'", "SELECT count() FROM (SELECT * FROM %s)", "SELECT (SELECT count() FROM %s)", "WITH x AS (SELECT * FROM %s) SELECT * FROM x", "SELECT 1 WHERE 1 IN (SELECT * FROM %s)",
				"SELECT 1 AS a UNION ALL SELECT * FROM %s"} {
				if name == "filesystem" && strings.HasPrefix(form, "INSERT") || name == "executable" && (strings.HasPrefix(form, "INSERT") || strings.HasPrefix(form, "DESCRIBE")) {
					continue
				}
				sql := fmt.Sprintf(form, call)
				g.try(who.name+": "+sql, func() error {
					_, err := g.ch(g.ctx, who, sql)
					return chRejected(err, append(who.rejections(), chEverybody...)...)
				})
			}
		}
		scalars := []string{"file('/etc/hostname')", "file('../../../../etc/hostname')", "catboostEvaluate('/etc/hostname', 1)", "joinGet('argus.audit_log', 'id', 1)", "dictGet('argus.x', 'y', 1)",
			"addressToSymbol(1)", "addressToLine(1)", "demangle('x')", "aiGenerate('c', 'x')", "aiEmbed('c', 'x')", "aiClassify('c', 'x', ['a'])", "aiExtract('c', 'x', 'y')", "aiTranslate('c', 'x', 'de')", "naiveBayesClassifier('m', 'x')"}
		if who.anonymous() { // it may evaluate nothing at all
			scalars = append(scalars, "1", "version()", "hostName()", "fullHostName()", "serverUUID()", "getServerSetting('max_server_memory_usage')", "getMacro('x')", "getServerPort('tcp_port')", "tcpPort()", "filesystemAvailable()",
				"filesystemCapacity()", "currentUser()", "currentProfiles()", "sleep(1)", "sleepEachRow(1)", "uptime()", "buildId()", "zookeeperSessionUptime()", "getClientHTTPHeader('Host')", "currentDatabase()", "getSetting('max_threads')",
				"repeat('x', 1000000)", "range(1000000)", "throwIf(1)", "initialQueryID()", "connectionId()", "randomString(1000)", "SHA256(repeat('x', 10000000))", "getMergeTreeSetting('index_granularity')", "length(file('/etc/hostname'))", "concat(file('/etc/hostname'), '')",
				"arrayMap(x -> file(x), ['/etc/hostname'])", "if(1, file('/etc/hostname'), '')", "(SELECT file('/etc/hostname'))", "file(concat('/etc', '/hostname'))")
		}
		for _, call := range scalars {
			_, err := g.ch(g.ctx, who, "SELECT "+call)
			seen := chRejected(err, who.rejections()...)
			if seen != nil && err != nil && !who.anonymous() {
				var mine, admins *chException
				if _, err := g.ch(g.ctx, g.chAdmin(), "SELECT "+call); errors.As(seen, &mine) && errors.As(err, &admins) && mine.code == admins.code {
					continue // no user can call it
				}
			}
			g.record(who.name+": SELECT "+call, seen)
		}
	}
}

var errSkipped = errors.New("no user can call it")

// chTry calls a table function as a user, with each form of arguments until it is rejected. What no user can call, not
// even the administrator, is no attempt.
func (g *group) chTry(who chUser, name string) (call string, seen error) {
	forms := append(arguments(name), "'http://127.0.0.1:1/bucket/k.csv', 'CSV', 'a String'", "'http://127.0.0.1:1/bucket/'", "'x'", "'x', 'y'", "'x', 'y', 'z'", "")
	if who.anonymous() {
		forms = forms[:1]
	}
	for _, args := range forms {
		call = name + "(" + args + ")"
		_, err := g.ch(g.ctx, who, "SELECT * FROM "+call+" LIMIT 1 SETTINGS max_execution_time = 2")
		rejections := who.rejections()
		if name == "sqlite" { // it opens the file first, and PATH_ACCESS_DENIED is what it says of one outside the server's folder
			rejections = append(rejections, 481)
		}
		if name == "executable" { // it runs what is in the folder of scripts, where nothing is
			rejections = append(rejections, chEverybody...)
		}
		if seen = chRejected(err, rejections...); seen == nil || !isMalformed(err) {
			return call, seen
		}
	}
	if who.anonymous() {
		return call, seen
	}
	for _, args := range forms {
		if _, err := g.ch(g.ctx, g.chAdmin(), "SELECT * FROM "+name+"("+args+") LIMIT 1 SETTINGS max_execution_time = 2"); !isMalformed(err) {
			return name + "(" + args + ")", seen
		}
	}
	return call, errSkipped
}

func isMalformed(err error) bool {
	var e *chException
	return errors.As(err, &e) && slices.Contains(malformed, e.code)
}
