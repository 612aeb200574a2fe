package user

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	imagebuild "ebb.dev/ebb/cmd/ebb/image"
	"ebb.dev/ebb/cmd/ebb/output"
)

// Deployment is what `ebb deploy` is asked for. Nil and empty fields leave what a
// service has.
type Deployment struct {
	Name        string
	Image       string
	Env         []string // K=V, or K- to remove
	Port        int32
	PortName    string // http1 or h2c
	Concurrency *int64
	Annotations map[string]string // of the template; an empty value removes
	Tag         string            // of the new revision
}

// DeployCommand is `ebb deploy`.
func DeployCommand() *cobra.Command {
	var f Flags
	d := Deployment{}
	var registry string
	var concurrency int64
	var minScale, maxScale int
	var annotations []string
	var waitReady, h2c bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "deploy NAME [./GO/PACKAGE] [--image REF]",
		Short: "Make a service, or give it a new revision",
		Long: "Make a service from an image or from the Go package in a folder, or change one: what is not named stays as it is.\n" +
			"A changed service gets a new revision, which takes the traffic unless `ebb traffic` has pinned it.",
		Example: "  ebb deploy hello ./examples/hello\n  ebb deploy hello --env TARGET=again\n  ebb deploy web --image ghcr.io/me/web:1 --port 9000 --max-scale 5",
		Args:    cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return f.completeServices(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Name = args[0]
			if cmd.Flags().Changed("concurrency") {
				d.Concurrency = &concurrency
			}
			d.Annotations = map[string]string{}
			for _, a := range annotations {
				key, value, ok := strings.Cut(a, "=")
				if !ok || key == "" {
					return fmt.Errorf("--annotation %q is not KEY=VALUE", a)
				}
				d.Annotations[key] = value
			}
			if cmd.Flags().Changed("min-scale") {
				d.Annotations[minScaleKey] = strconv.Itoa(minScale)
			}
			if cmd.Flags().Changed("max-scale") {
				d.Annotations[maxScaleKey] = strconv.Itoa(maxScale)
			}
			if h2c {
				d.PortName = "h2c"
			}
			pkg := ""
			if len(args) == 2 {
				pkg = args[1]
			}
			if err := d.check(pkg); err != nil {
				return err
			}
			s, err := f.Connect(cmd)
			if err != nil {
				return err
			}
			ctx, began := cmd.Context(), time.Now()
			stage := func(format string, args ...any) {
				fmt.Fprintf(s.Err, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
			}
			if pkg != "" {
				if registry == "" {
					registry = s.registry()
				}
				if err := imagebuild.Check(pkg, registry); err != nil {
					return err
				}
				stage("building %s", pkg)
				if d.Image, err = imagebuild.Build(ctx, pkg, registry, d.Name); err != nil {
					return err
				}
				stage("pushed %s", d.Image)
			}
			svc, outcome, err := s.Deploy(ctx, d)
			if err != nil {
				return err
			}
			stage("service %s/%s %s", svc.Namespace, svc.Name, outcome)
			if waitReady {
				ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("service %s is not Ready after %s: `ebb describe %s` and `ebb logs %s` show more", svc.Name, timeout, svc.Name, svc.Name))
				defer cancel()
				if svc, err = s.AwaitReady(ctx, svc, func(line string) { stage("%s", line) }); err != nil {
					return err
				}
			}
			switch s.Format {
			case output.JSON, output.YAML:
				return output.WriteObject(s.Out, s.Format, svc)
			case output.Name:
				fmt.Fprintf(s.Out, "service.%s/%s\n", serving.GroupName, svc.Name)
				return nil
			}
			if svc.Status.URL != "" {
				fmt.Fprintln(s.Out, svc.Status.URL)
			}
			return nil
		},
	}
	f.Add(cmd)
	f.AddOutput(cmd)
	p := cmd.Flags()
	p.StringVar(&d.Image, "image", "", "container image `REF`")
	p.StringVar(&registry, "registry", "", "`HOST/PATH` to push a Go package's image to; else that of the running `ebb up`, else $KO_DOCKER_REPO")
	p.StringArrayVarP(&d.Env, "env", "e", nil, "`K=V` for the container, K- removes; may be repeated")
	p.Int32VarP(&d.Port, "port", "p", 0, "`PORT` the container listens on ($PORT tells it; 8080 when nobody says)")
	p.BoolVar(&h2c, "h2c", false, "the container speaks HTTP/2 without TLS (gRPC)")
	p.Int64Var(&concurrency, "concurrency", 0, "`REQUESTS` a pod handles at the same time; 0 for no limit")
	p.IntVar(&minScale, "min-scale", 0, "`PODS` that stay when nothing calls")
	p.IntVar(&maxScale, "max-scale", 0, "`PODS` at most; 0 for no limit")
	p.StringArrayVarP(&annotations, "annotation", "a", nil, "`KEY=VALUE` on the revision, KEY= removes; may be repeated")
	p.StringVar(&d.Tag, "tag", "", "`NAME` under which the new revision has an address of its own")
	p.BoolVar(&waitReady, "wait", true, "wait until the service is Ready")
	p.DurationVar(&timeout, "wait-timeout", 10*time.Minute, "how long to wait")
	return cmd
}

const (
	minScaleKey = "autoscaling.knative.dev/min-scale"
	maxScaleKey = "autoscaling.knative.dev/max-scale"
)

// serviceName is what Kubernetes takes for a Service (RFC 1035).
const serviceName = `^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`

func (d *Deployment) check(pkg string) error {
	if ok, _ := regexp.MatchString(serviceName, d.Name); !ok {
		return fmt.Errorf("%q cannot be a service's name: use lower-case letters, digits and dashes, beginning with a letter, for example %q", d.Name, suggestName(d.Name))
	}
	switch {
	case pkg != "" && d.Image != "":
		return errors.New("give either --image REF or a Go package, not both")
	case pkg != "" && !imagebuild.IsPackage(pkg):
		if _, err := os.Stat(pkg); err == nil {
			return fmt.Errorf("%q: a Go package is named by a path that begins with ./ (try ./%s), an image with --image", pkg, pkg)
		}
		return fmt.Errorf("%q is not a folder here: an image is given as --image %s, a Go package as ./FOLDER", pkg, pkg)
	}
	for _, e := range d.Env {
		if name, _, ok := strings.Cut(e, "="); (!ok && !strings.HasSuffix(e, "-")) || name == "" {
			return fmt.Errorf("--env %q is not NAME=VALUE (NAME- removes one)", e)
		}
	}
	if d.Port < 0 || d.Port > 65535 {
		return fmt.Errorf("--port %d is not between 1 and 65535", d.Port)
	}
	return nil
}

func suggestName(name string) string {
	name = regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(path.Base(name)), "-")
	name = strings.Trim(name, "-")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "my-" + name
	}
	return strings.Trim(name[:min(len(name), 63)], "-")
}

func (s *Session) registry() string {
	if s.Local != nil {
		return s.Local.Registry
	}
	return os.Getenv("KO_DOCKER_REPO")
}

// Deploy makes the service or changes it; outcome is one word.
func (s *Session) Deploy(ctx context.Context, d Deployment) (svc *v1.Service, outcome string, err error) {
	what := fmt.Sprintf("service %q", d.Name)
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		svc = &v1.Service{}
		err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: d.Name}, svc)
		switch {
		case apierrors.IsNotFound(err):
			if d.Image == "" {
				return fmt.Errorf("%s is not in namespace %s, and a new one needs code: add --image REF or a Go package (./FOLDER)", what, s.Namespace)
			}
			svc.Name, svc.Namespace = d.Name, s.Namespace
			d.apply(svc)
			outcome = "created"
			return s.Create(ctx, svc)
		case err != nil:
			return err
		}
		before := svc.DeepCopy()
		d.apply(svc)
		if equality.Semantic.DeepEqual(before.Spec, svc.Spec) {
			outcome = "unchanged"
			return nil
		}
		outcome = "changed"
		return s.Update(ctx, svc)
	})
	if err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) && !apierrors.IsNotFound(err) || strings.Contains(err.Error(), "connection refused") {
			err = s.explain(err, what)
		}
		return nil, "", err
	}
	return svc, outcome, nil
}

func (d *Deployment) apply(svc *v1.Service) {
	template := &svc.Spec.Template
	if len(template.Spec.Containers) == 0 {
		template.Spec.Containers = []corev1.Container{{}}
	}
	before := template.DeepCopy()
	c := &template.Spec.Containers[0]
	if d.Image != "" {
		c.Image = d.Image
	}
	for _, e := range d.Env {
		name, value, set := strings.Cut(e, "=")
		if !set {
			name = strings.TrimSuffix(name, "-")
			c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == name })
			continue
		}
		if i := slices.IndexFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == name }); i >= 0 {
			c.Env[i] = corev1.EnvVar{Name: name, Value: value}
		} else {
			c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
		}
	}
	if d.Port != 0 || d.PortName != "" {
		port := corev1.ContainerPort{ContainerPort: d.Port, Name: d.PortName}
		if len(c.Ports) > 0 {
			if port.ContainerPort == 0 {
				port.ContainerPort = c.Ports[0].ContainerPort
			}
			if port.Name == "" {
				port.Name = c.Ports[0].Name
			}
		}
		if port.ContainerPort == 0 {
			port.ContainerPort = 8080
		}
		c.Ports = []corev1.ContainerPort{port}
	}
	if d.Concurrency != nil {
		template.Spec.ContainerConcurrency = d.Concurrency
	}
	for key, value := range d.Annotations {
		if value == "" {
			delete(template.Annotations, key)
			continue
		}
		if template.Annotations == nil {
			template.Annotations = map[string]string{}
		}
		template.Annotations[key] = value
	}
	if !equality.Semantic.DeepEqual(before, template) {
		template.Name = "" // a name belongs to one revision
	}
	if d.Tag != "" {
		svc.Spec.Traffic = tagLatest(svc.Spec.Traffic, d.Tag)
	}
}
