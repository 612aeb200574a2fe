{{- /* An image: by its digest where there is one, else by the tag. It is also where the release's namespace is checked. */ -}}
{{- define "ebb.image" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $digest := index . 2 -}}
{{- $image := $root.Values.image -}}
{{- if ne $root.Release.Namespace "ebb-system" -}}
{{- fail "Ebb lives in the namespace ebb-system: helm install … --namespace ebb-system --create-namespace" -}}
{{- end -}}
{{- required "image.repository is needed: HOST/PATH under which ebb and ebb-gateway are" $image.repository }}/{{ $name }}
{{- if $digest }}@{{ $digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}
