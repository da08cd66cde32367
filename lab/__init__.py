"""The lab: nodes in containers, a stand-in MI300X, mirrors, the small model. Nothing in fleet/ imports it."""
