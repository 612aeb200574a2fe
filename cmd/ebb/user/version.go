package user

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebb.dev/ebb/cmd/ebb/envoybin"
	"ebb.dev/ebb/cmd/ebb/output"
)

// Version is of this program and of what it works with. Empty: not known.
type Version struct {
	Ebb      string `json:"ebb"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from files that are not in the commit
	Date     string `json:"date,omitempty"`     // of the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`

	Envoy      string `json:"envoy,omitempty"`      // that `ebb up` runs
	Kubernetes string `json:"kubernetes,omitempty"` // of the kube-apiserver in use
	Controller string `json:"controller,omitempty"` // the Ebb there
}

// versionTimeout bounds each question to something else.
const versionTimeout = 3 * time.Second

// VersionCommand is `ebb version`; stamped is what the build says of itself.
func VersionCommand(stamped string) *cobra.Command {
	var f Flags
	var client bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the versions of ebb, Envoy and Kubernetes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := output.ParseFormat(f.Output)
			if err != nil {
				return err
			}
			v := BuildVersion(stamped)
			if !client {
				ctx, cancel := context.WithTimeout(cmd.Context(), versionTimeout)
				defer cancel()
				v.Envoy = envoyVersion(ctx)
				if s, err := f.Connect(cmd); err == nil {
					s.serverVersions(ctx, &v)
				}
			}
			out := cmd.OutOrStdout()
			switch format {
			case output.JSON, output.YAML:
				return output.WriteObject(out, format, v)
			case output.Name:
				fmt.Fprintln(out, v.Ebb)
				return nil
			}
			return output.WriteFields(out, v.fields())
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	cmd.Flags().BoolVar(&client, "client", false, "only of this program: ask nothing else")
	return cmd
}

// BuildVersion is what the program itself knows: the stamp of the build, or else what Go
// noted of the module.
func BuildVersion(stamped string) Version {
	v := Version{Ebb: stamped, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if main := info.Main.Version; (stamped == "" || stamped == "dev") && main != "" && main != "(devel)" {
		v.Ebb = main
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v *Version) fields() [][2]string {
	commit := v.Commit
	if v.Modified {
		commit += ", with changes"
	}
	return [][2]string{
		{"Ebb", v.Ebb}, {"Commit", commit}, {"Date", v.Date}, {"Go", v.Go + " " + v.Platform},
		{"Envoy", v.Envoy}, {"Kubernetes", v.Kubernetes}, {"Controller", v.Controller},
	}
}

func (s *Session) serverVersions(ctx context.Context, v *Version) {
	text, err := s.Pods.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	var kubernetes struct {
		GitVersion string `json:"gitVersion"`
	}
	if err == nil && json.Unmarshal(text, &kubernetes) == nil {
		v.Kubernetes = kubernetes.GitVersion
	}
	var status controllerStatus
	if text, err := s.ask(ctx, "/status", nil); err == nil && json.Unmarshal(text, &status) == nil {
		v.Controller = status.Version
	}
}

var envoyNumber = regexp.MustCompile(`version: [0-9a-f]+/([^/\s]+)`)

// envoyVersion asks the Envoy that would be used; "" when there is none.
func envoyVersion(ctx context.Context) string {
	search, err := envoybin.Default("")
	if err != nil {
		return ""
	}
	path, _, err := search.Find()
	if err != nil {
		return ""
	}
	text, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return ""
	}
	if m := envoyNumber.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return strings.TrimSpace(string(text))
}
