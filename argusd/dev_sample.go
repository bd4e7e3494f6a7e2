package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/useargus/argus/internal/ports"
	"github.com/useargus/argus/internal/sample"
)

// servicesFile is written once. What is added to it by hand stays, and the API takes it up within seconds.
func (d *dev) servicesFile() string { return filepath.Join(d.dir, "services.yaml") }

const devServices = `# The services behind this ARGUS. A change is taken up within seconds: see docs/services.md. A token has the scopes that
# its preset had when it was made: after you add scopes, stop make dev, start it again and source .argus/env once more.
providers:
  - {name: fleet, url: "http://%[1]s/fleet"}   # a controller of made-up instances: argusctl compute launch --provider fleet

services:                              # the last key, so that yours can follow at the end of the file
  - name: sample                       # internal/sample, which argusd dev runs
    upstream: http://%[1]s
    release_header: X-Release
    health: /healthz
    scopes: {"sample:read": See the sample's items, "sample:write": Change the sample's items}
    presets: {support-readonly: ["sample:read"], admin-full: ["sample:read", "sample:write"]}
    routes:
      - {route: "GET /v1/items", scope: "sample:read"}
      - {route: "GET /v1/items/:id", scope: "sample:read"}
      - {route: "POST /v1/items", scope: "sample:write"}
      - {route: "POST /v1/items/:id/retire", scope: "sample:write", reason: required}
      - {route: "GET /v1/events", scope: "sample:read", stream: true}
`

// writeServicesFile makes the file of a new folder.
func (d *dev) writeServicesFile() error {
	if _, err := os.Stat(d.servicesFile()); err == nil && d.state.SamplePort != 0 {
		return nil
	}
	if d.state.SamplePort == 0 {
		address, err := ports.FreeAddress()
		if err != nil {
			return err
		}
		d.state.SamplePort = int(netip.MustParseAddrPort(address).Port())
		if err := d.state.save(); err != nil {
			return err
		}
	}
	return writeFileAtomic(d.servicesFile(), fmt.Appendf(nil, devServices, d.sampleAddress()))
}

func (d *dev) sampleAddress() string { return "127.0.0.1:" + strconv.Itoa(d.state.SamplePort) }

func (d *dev) startSample(context.Context) (process, error) {
	dir := filepath.Join(d.dir, "sample")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return d.startChild("sample", []string{"dev-sample", "--dir", dir, "--listen", d.sampleAddress(), "--issuer", "http://" + d.addr}, nil)
}

func newDevSampleCommand() *cobra.Command {
	var dir, listen, issuer string
	command := &cobra.Command{
		Use:    "dev-sample",
		Short:  "The service behind the door of argusd dev; not for use by itself",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if dir == "" || listen == "" || issuer == "" {
				return errors.New("argusd dev starts this")
			}
			s, err := sample.Open(sample.Config{Dir: dir, Issuer: issuer, Upstream: "http://" + listen})
			if err != nil {
				return err
			}
			return sample.Serve(command.Context(), listen, s.Handler())
		},
	}
	command.Flags().StringVar(&dir, "dir", "", "where its state is kept")
	command.Flags().StringVar(&listen, "listen", "", "its address")
	command.Flags().StringVar(&issuer, "issuer", "", "ARGUS's public URL")
	return command
}
