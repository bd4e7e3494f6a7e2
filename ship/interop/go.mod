// Others' programs judge what ARGUS ships: the published schema of OCSF, an S3 server, a Kafka broker, an OpenTelemetry receiver.
// Their graphs are large, so they are in a module of tests alone.
module github.com/useargus/argus/ship/interop

go 1.26.0

replace github.com/useargus/argus => ../..

require (
	github.com/klauspost/compress v1.20.3
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/useargus/argus v0.0.0-00010101000000-000000000000
	github.com/valllabh/ocsf-schema-golang v1.0.3
	pgregory.net/rapid v1.3.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/santhosh-tekuri/jsonschema/v5 v5.3.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/text v0.43.0 // indirect
)
