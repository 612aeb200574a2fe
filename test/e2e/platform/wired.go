package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ebb.dev/ebb/test/e2e/wire"
)

// Wires are connections of a platform that a test can cut and slow down.
type Wires struct {
	Etcd    *wire.Wire // of the kube-apiserver to etcd
	API     *wire.Wire // of all parts to the kube-apiserver; not the test's own
	Control *wire.Wire // of the gateway to the controller: configuration and load reports

	apiServer string // where the kube-apiserver really listens
}

// Programs that take the place of others and tell them to go by the wires.
const (
	wiredKube = `#!/bin/sh
[ "$1" = kube-apiserver ] || exec '%[1]s' "$@"
for word; do
	shift
	case $word in
	--etcd-servers=*) word=--etcd-servers=http://%[2]s ;;
	--secure-port=*) word=--secure-port=%[3]s ;;
	esac
	set -- "$@" "$word"
done
exec '%[1]s' "$@"
`
	wiredEnvoy = `#!/bin/sh
port=$(tr -d ' \n' <'%[2]s/ports.json' | sed 's/.*"xds":\([0-9]*\).*/\1/')
for word; do
	shift
	case $word in
	*/envoy.yaml) sed "s/\b$port\b/%[3]s/" "$word" >"$word.wired.yaml"; word=$word.wired.yaml ;;
	esac
	set -- "$@" "$word"
done
exec '%[1]s' "$@"
`
)

// StartWired is Start of a platform with wires. It cannot be brought up a second time.
func StartWired(ctx context.Context) (*Platform, error) {
	return begin(ctx, true, nil)
}

// wire makes the wires and the programs that use them, and returns the Envoy of these.
func (p *Platform) wire(envoy string) (string, error) {
	w := &Wires{}
	var errs [2]error
	w.Etcd, errs[0] = wire.Listen("127.0.0.1:0", func() string { return p.port("etcd") })
	w.Control, errs[1] = wire.Listen("127.0.0.1:0", func() string { return p.port("xds") })
	if err := errors.Join(errs[:]...); err != nil {
		return "", err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	w.apiServer = free.Addr().String()
	_ = free.Close()
	p.Wires = w
	kube := os.Getenv("EBB_KUBE")
	if kube == "" {
		kube = filepath.Join(filepath.Dir(p.Ebb), "ebb-kube")
	}
	for path, text := range map[string]string{
		"kube":  fmt.Sprintf(wiredKube, kube, w.Etcd.Address(), portOf(w.apiServer)),
		"envoy": fmt.Sprintf(wiredEnvoy, envoy, p.Data, portOf(w.Control.Address())),
	} {
		if err := os.WriteFile(p.wired(path), []byte(text), 0o700); err != nil {
			return "", err
		}
	}
	p.env = append(p.env, "EBB_KUBE="+p.wired("kube"))
	return p.wired("envoy"), nil
}

// wired is the path of a program that takes another one's place.
func (p *Platform) wired(name string) string { return p.Data + wiredMark + name }

const wiredMark = ".wired-"

// await listens in the kube-apiserver's place as soon as `ebb up` has chosen it.
func (w *Wires) await(ctx context.Context, p *Platform) error {
	return poll(ctx, func() (err error) {
		address := p.port("apiserver")
		if address == "" {
			return errors.New("`ebb up` has chosen no ports")
		}
		w.API, err = wire.Listen(address, func() string { return w.apiServer })
		return err
	})
}

func (w *Wires) close() {
	for _, one := range []*wire.Wire{w.Etcd, w.API, w.Control} {
		if one != nil {
			one.Close()
		}
	}
}

// port is the address of a port that `ebb up` has chosen, by its name; empty before.
func (p *Platform) port(name string) string {
	ports := map[string]int{}
	text, err := os.ReadFile(p.dir.Path("ports.json"))
	if err != nil || json.Unmarshal(text, &ports) != nil || ports[name] == 0 {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[name]))
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
