package render

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"

	"ebb.dev/ebb/config/install"
)

const embedded = ".Values.nats.embedded"

// placesOfStore are those of Ebb's own store of events.
func placesOfStore(s *appsv1.StatefulSet) []place {
	args := s.Spec.Template.Spec.Containers[0].Args
	places := append(placesOfPod("nats", args),
		place{"spec.volumeClaimTemplates.0.spec.resources.requests.storage", value(".Values.nats.storage.size")},
		place{"spec.volumeClaimTemplates.0.spec.storageClassName", when(".Values.nats.storage.class", ".Values.nats.storage.class | quote")},
	)
	for i, arg := range args {
		if strings.HasPrefix(arg, "--max-store=") {
			places = append(places, place{fmt.Sprintf("%sargs.%d", container, i), item("--max-store={{ .Values.nats.storage.promised }}")})
		}
	}
	return places
}

// placesOfClient are how the eventing part reaches the store: Ebb's own with the certificates that the controller makes, or
// another with what a Secret of the user's has.
func placesOfClient(args []string) []place {
	var places []place
	for i, arg := range args {
		at := fmt.Sprintf("%sargs.%d", container, i)
		switch {
		case strings.HasPrefix(arg, "--nats="):
			places = append(places, place{at, func(indent, _ string) string { return clientArgs(indent, args[i:]) }})
		case strings.HasPrefix(arg, "--nats-"):
			places = append(places, place{at, func(string, string) string { return "" }})
		}
	}
	const theirs = "{{- if and (not " + embedded + ") .Values.nats.secret.name }}"
	return append(places,
		place{container + "volumeMounts.1", func(indent, _ string) string {
			return lines(indent, theirs, "- mountPath: "+install.NATSFolder, "  name: "+install.NATSVolume, "  readOnly: true", "{{- end }}")
		}},
		place{podAt + "spec.volumes.1", func(indent, _ string) string {
			return lines(indent, theirs, "- name: "+install.NATSVolume, "  secret:", "    defaultMode: 288", "    secretName: {{ .Values.nats.secret.name }}", "{{- end }}")
		}},
	)
}

func lines(indent string, all ...string) string {
	return indent + strings.Join(all, "\n"+indent) + "\n"
}

// clientArgs are those for Ebb's own store, and those for another.
func clientArgs(indent string, own []string) string {
	all := []string{"{{- if " + embedded + " }}"}
	for _, arg := range own {
		all = append(all, "- "+arg)
	}
	all = append(all, "{{- else }}", "- --nats={{ .Values.nats.url }}")
	optional := func(name, value, prefix string) {
		all = append(all, "{{- with .Values.nats."+value+" }}", "- --nats-"+name+"="+prefix+"{{ . }}", "{{- end }}")
	}
	optional("user", "user", "")
	for _, f := range [][2]string{{"credentials", "credentials"}, {"password-file", "password"}, {"tls-ca", "ca"}, {"tls-cert", "cert"}, {"tls-key", "key"}} {
		optional(f[0], "secret."+f[1], install.NATSFolder+"/")
	}
	return lines(indent, append(all, "{{- end }}")...)
}
