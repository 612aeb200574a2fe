package plan

import "testing"

func TestTopicNamesAreReadBack(t *testing.T) {
	for _, a := range []Address{{Broker, "default", "main"}, {Channel, "shop", "orders.eu"}} {
		name := TopicName(a, "0a1b2c3d-4e5f-6789-abcd-ef0123456789")
		for _, topic := range []string{name, DeadLetters(name)} {
			got, uid, ok := OwnerOf(topic)
			if got != a || uid != "0a1b2c3d" || !ok {
				t.Errorf("OwnerOf(%s) = %v, %s, %v; want %v", topic, got, uid, ok, a)
			}
		}
	}
	for _, name := range []string{"", "b.", "b.default", "b.default.main", "x.default.main.0a1b2c3d", "b..main.0a1b2c3d"} {
		if a, _, ok := OwnerOf(name); ok {
			t.Errorf("OwnerOf(%q) = %v, want none", name, a)
		}
	}
}

func TestPathsAreReadBack(t *testing.T) {
	for _, a := range []Address{
		{Broker, "default", "main"}, {Channel, "default", "main"}, {Broker, "channels", "main"}, {Channel, "channels", "a.b"},
	} {
		for _, path := range []string{a.Path(), a.Path() + "/"} {
			if got, ok := AddressOf(path); got != a || !ok {
				t.Errorf("AddressOf(%s) = %v, %v; want %v", path, got, ok, a)
			}
		}
	}
	for _, path := range []string{"", "/", "/default", "/default/", "//main", "/a/b/c", "/channels/a/b/c", "default/main"} {
		if a, ok := AddressOf(path); ok {
			t.Errorf("AddressOf(%q) = %v, want none", path, a)
		}
	}
}
