package rights

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// right is to do something with a kind of object.
type right struct {
	verb, group, resource string // resource with its subresource: deployments/scale
}

func (r right) String() string {
	if r.group == "" {
		return r.verb + " " + r.resource
	}
	return r.verb + " " + r.resource + "." + r.group
}

// request is one line of the audit log.
type request struct {
	Verb   string
	User   struct{ Username string }
	As     *struct{ Username string }                                        `json:"impersonatedUser"`
	Object struct{ APIGroup, Resource, Subresource, Namespace, Name string } `json:"objectRef"`
	Status struct {
		Code    int
		Message string
	} `json:"responseStatus"`
	URI string `json:"requestURI"`
}

func (r *request) right() right {
	resource := r.Object.Resource
	if r.Object.Subresource != "" {
		resource += "/" + r.Object.Subresource
	}
	return right{r.Verb, r.Object.APIGroup, resource}
}

// read counts what a user has done, and lists what it was forbidden. What it did as another user is that one's right; its own is
// to act as that one.
func read(log io.Reader, user string) (used map[right]int, forbidden []string, err error) {
	used = map[right]int{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		if r.User.Username != user {
			continue
		}
		if r.As != nil {
			used[right{"impersonate", "", "serviceaccounts"}]++
			continue
		}
		if r.Object.Resource == "" {
			continue // discovery
		}
		if r.Status.Code == 403 && strings.Contains(r.Status.Message, "cannot ") { // and not what admission refuses
			forbidden = append(forbidden, fmt.Sprintf("%s (%s): %s", r.right(), r.URI, r.Status.Message))
		}
		used[r.right()]++
		if r.Verb == "patch" && r.Status.Code == 201 { // an apply of what was not there, which takes both rights
			made := r.right()
			made.verb = "create"
			used[made]++
		}
	}
	return used, forbidden, lines.Err()
}

// granted are all rights of rules.
func granted(rules []rbacv1.PolicyRule) map[right]bool {
	all := map[right]bool{}
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					all[right{verb, group, resource}] = true
				}
			}
		}
	}
	return all
}

// report is a table of what was granted and done, sorted.
func report(granted map[right]bool, used map[right]int, idle map[right]string) string {
	var rows []string
	for r := range granted {
		row := fmt.Sprintf("%-24s %-16s %-46s %d", r.group, r.verb, r.resource, used[r])
		if why := idle[r]; why != "" {
			row += "  " + why
		}
		rows = append(rows, row)
	}
	slices.Sort(rows)
	return strings.Join(rows, "\n")
}
