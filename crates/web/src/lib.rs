//! HTTP: the API. It translates and never decides.
