package engines

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"
)

// The embedded server reads its users from one file, once: the file is removed when it serves (see launch). There is
// no other access storage.
//
// Its own queries (see launch) run as `default`, which must exist, without a password, from the local host. Their
// session lasts as long as the server does, and it is the only one that `default` may have: anybody else who logs in
// as `default` is denied. What he could still do, were that bound to fail, is no SELECT: a query of one element.
var usersTemplate = template.Must(template.New("users").Funcs(xmlFuncs).Parse(`<clickhouse>
  <profiles>
    <default/>
    <defaults>
{{- range $name, $value := .Settings}}
      <{{$name}}>{{xml $value}}</{{$name}}>
{{- end}}
    </defaults>
    <start>
      <max_sessions_for_user>1</max_sessions_for_user>
      <max_ast_elements>1</max_ast_elements>
      <max_memory_usage>100000000</max_memory_usage>
      <max_threads>1</max_threads>
      <constraints>
        <max_sessions_for_user><const/></max_sessions_for_user>
        <max_ast_elements><const/></max_ast_elements>
        <max_memory_usage><const/></max_memory_usage>
        <max_threads><const/></max_threads>
      </constraints>
    </start>
{{- range .Users}}
    <{{.Name}}>
      <profile>defaults</profile>
{{- range .Settings}}
      <{{.Name}}>{{xml .Value}}</{{.Name}}>
{{- end}}
      <constraints>
{{- range .Settings}}{{if or .Max .Free}}
        <{{.Name}}>{{if .Max}}<min>{{xml .Min}}</min><max>{{xml .Max}}</max>{{end}}<changeable_in_readonly/></{{.Name}}>
{{- end}}{{end}}
      </constraints>
    </{{.Name}}>
{{- end}}
  </profiles>
  <quotas>
    <default/>
{{- range .Users}}
    <{{.Name}}><interval><duration>3600</duration><queries>{{.QueriesPerHour}}</queries></interval></{{.Name}}>
{{- end}}
  </quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>start</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SYSTEM LISTEN ON *.*</query>
      </grants>
    </default>
    <argus_migrate>
      <password_sha256_hex>{{sha256 .AdminPassword}}</password_sha256_hex>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <access_management>1</access_management>
    </argus_migrate>
{{- range .Users}}
    <{{.Name}}>
      <password_sha256_hex>{{sha256 .Password}}</password_sha256_hex>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>{{.Name}}</profile>
      <quota>{{.Name}}</quota>
      <grants>
{{- range .Grants}}
        <query>GRANT {{xml .}}</query>
{{- end}}
      </grants>
    </{{.Name}}>
{{- end}}
  </users>
</clickhouse>
`))

// No log tables are configured, so there are none. Caches are small: what is bounded here is a whole
// development machine's or a test's server.
//
// The library has two threads to schedule its tables' tasks on. With these it pauses tasks and warns of it, many times a
// second. A server has 512.
//
// HTTP answers queries alone, and only to a Host that is loopback: a web page whose name was bound to 127.0.0.1 after
// it was loaded names its own.
var serverTemplate = template.Must(template.New("config").Funcs(xmlFuncs).Parse(`<clickhouse>
  <logger>
    <log>{{xml .Dir}}/clickhouse.log</log>
    <errorlog>{{xml .Dir}}/clickhouse.log.errors</errorlog>
    <size>50M</size>
    <count>2</count>
    <console>0</console>
  </logger>
  <users_config>{{xml .Dir}}/users.xml</users_config>
  <tmp_path>{{xml .Dir}}/tmp/</tmp_path>
  <user_files_path>{{xml .Dir}}/user_files/</user_files_path>
  <format_schema_path>{{xml .Dir}}/format_schemas/</format_schema_path>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{{.MaxMemory}}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <max_concurrent_queries>200</max_concurrent_queries>
  <background_schedule_pool_size>16</background_schedule_pool_size>
  <access_control_improvements><settings_constraints_replace_previous>true</settings_constraints_replace_previous></access_control_improvements>
{{- if .Peers}}
  <remote_servers replace="1">
    <argus>
      <secret>{{xml .Secret}}</secret>
{{- range .Peers}}
      <shard><replica><host>127.0.0.1</host><port>{{.}}</port></replica></shard>
{{- end}}
    </argus>
  </remote_servers>
{{- end}}
  <http_handlers>
    <rule>
      <url>/</url>
      <headers><Host>regex:^(127\.0\.0\.1|localhost)(:[0-9]+)?$</Host></headers>
      <handler><type>dynamic_query_handler</type><query_param_name>query</query_param_name></handler>
    </rule>
  </http_handlers>
</clickhouse>
`))

var xmlFuncs = template.FuncMap{
	"xml": func(s string) (string, error) {
		var b strings.Builder
		err := xml.EscapeText(&b, []byte(s))
		return b.String(), err
	},
	"sha256": func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	},
}

// writeClickHouseConfig writes config.xml and users.xml, with digests of the passwords only.
func writeClickHouseConfig(config ClickHouseConfig, acc *account) error {
	users := make([]ClickHouseLogin, len(config.Users))
	for i, u := range config.Users {
		grants, err := u.GrantsOn(config.Databases...)
		if err != nil {
			return err
		}
		u.Grants = grants
		users[i] = u
	}
	config.Users = users
	for name, t := range map[string]*template.Template{"config.xml": serverTemplate, "users.xml": usersTemplate} {
		var b strings.Builder
		if err := t.Execute(&b, config); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path := filepath.Join(config.Dir, name)
		if err := writeFile(path, []byte(b.String()), 0o600); err != nil {
			return err
		}
		if err := acc.chown(path); err != nil {
			return err
		}
	}
	return nil
}
