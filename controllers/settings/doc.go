// Package settings brings the platform's ConfigMaps into the settings.Store, and wakes
// controllers when what they read there has changed.
//
// In come the ConfigMaps of one namespace; out go calls of Store.Update. A ConfigMap
// with a bad value changes nothing: it gets an event that names the key, and the last
// good settings stay. [Add] is for the controller's main program; [Source] is for
// controllers whose result depends on settings.
package settings
