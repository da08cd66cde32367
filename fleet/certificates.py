"""The certificates of the one endpoint: make a stack's authority, sign certificates with it, read what a PEM text has.

Pure: text in, text out; the caller has the time. Needs cryptography, a dependency of paramiko, which each function imports itself: most runs
need none of them. Called by fleet.provider (authority, gateway) and, for a stack's own certificate, by fleet.program.
"""

import base64
import datetime
import hashlib
import ipaddress
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

# Days that a certificate holds, and days left at which the next update renews it.
DAYS, RENEW = 90, 30
AUTHORITY_DAYS, AUTHORITY_RENEW = 3650, 365
# A machine's clock may be late.
LATE = datetime.timedelta(hours=1)
ACCOUNT_BITS = 3072  # of an account's key
LONGEST_COMMON_NAME = 64  # X.520; the names of hosts may be longer


@dataclass(frozen=True)
class Wanted:
    """One certificate: whether it is of a server or of a client, its common name, and the host names and addresses of a server."""

    usage: Literal["server", "client"]
    name: str
    hosts: tuple[str, ...] = ()


def now() -> datetime.datetime:
    """Return the time in UTC."""
    return datetime.datetime.now(tz=datetime.UTC)


def new_authority(name: str, at: datetime.datetime) -> tuple[str, str]:
    """Return the certificate of a new authority, and its key, as PEM."""
    from cryptography import x509

    key = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:LONGEST_COMMON_NAME])])
    return _authority(subject, key, at), _key_pem(key)


def renewed_authority(certificate: str, private: str, at: datetime.datetime) -> str:
    """Return the certificate of the same authority with the same key and a new end: what it has signed stays right."""
    return _authority(_read(certificate).subject, _read_key(private), at)


def issue(wanted: Wanted, authority: str, private: str, at: datetime.datetime) -> str:
    """Return a certificate of the authority, and its own new key below it, as PEM."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    issuer, key = _read(authority), _new_key()
    usage = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}[wanted.usage]
    name = [x509.NameAttribute(NameOID.COMMON_NAME, wanted.name)] if len(wanted.name) <= LONGEST_COMMON_NAME else []
    builder = _builder(x509.Name(name), issuer.subject, key, at, min(at + _days(DAYS), issuer.not_valid_after_utc))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if wanted.hosts:
        alternatives = x509.SubjectAlternativeName([_general_name(host) for host in wanted.hosts])
        builder = builder.add_extension(alternatives, critical=not name)
    builder = builder.add_extension(_issuer_id(issuer), critical=False)
    return _pem(_signed(builder, private)) + _key_pem(key)


def new_account() -> tuple[str, str]:
    """Return a new key of an account at an ACME server, as PEM, and its thumbprint (RFC 7638). RSA: dehydrated 0.7.0 knows no other one."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=ACCOUNT_BITS)
    numbers = key.public_key().public_numbers()
    members = {"e": _unpadded(_bytes(numbers.e)), "kty": "RSA", "n": _unpadded(_bytes(numbers.n))}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return _key_pem(key), _unpadded(hashlib.sha256(canonical.encode()).digest())


def reason_to_issue(pem: str, wanted: Wanted, authority: str, at: datetime.datetime) -> str:
    """Return why a certificate must be replaced by a new one, in words; "" for one that may stay. `pem` is "" where there is none."""
    try:
        certificate = _read(pem)
    except ValueError:
        return "it has no certificate" if not pem else "its certificate cannot be read"
    if not _signed_by(certificate, _read(authority)):
        return "another authority has signed its certificate"
    if hosts(pem) != [str(_general_name(host).value) for host in wanted.hosts]:
        return f"the names of its certificate change from {', '.join(hosts(pem))} to {', '.join(wanted.hosts)}"
    if _common_name(certificate) not in (wanted.name, ""):
        return f"the name in its certificate changes from {_common_name(certificate)} to {wanted.name}"
    return reason_to_renew(ends(pem), at)


def reason_to_renew(day: datetime.date, at: datetime.datetime, left: int = RENEW) -> str:
    """Return the words for a certificate that ends on `day` and has at most `left` days; "" for another."""
    return f"its certificate ends {day}, renewed" if (day - at.date()).days <= left else ""


def ends(pem: str) -> datetime.date:
    """Return the last day of the first certificate in a PEM text. Raises ValueError without one."""
    return _read(pem).not_valid_after_utc.date()


def hosts(pem: str) -> list[str]:
    """Return the names and addresses of the first certificate in a PEM text. Raises ValueError without one."""
    from cryptography import x509

    try:
        names = _read(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def has_key(pem: str, private: str) -> bool:
    """Return whether a key belongs to the first certificate in a PEM text. Raises ValueError where one of them cannot be read."""
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_private_key(private.encode(), None)
    return bool(key.public_key() == _read(pem).public_key())


def _authority(subject: "x509.Name", key: "EllipticCurvePrivateKey", at: datetime.datetime) -> str:
    from cryptography import x509

    builder = _builder(subject, subject, key, at, at + _days(AUTHORITY_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True), critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return _pem(_signed(builder, _key_pem(key)))


def _builder(
    subject: "x509.Name",
    issuer: "x509.Name",
    key: "EllipticCurvePrivateKey",
    at: datetime.datetime,
    until: datetime.datetime,
) -> "x509.CertificateBuilder":
    """Return what all certificates here have: names, key, serial, time."""
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - LATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(**uses: bool) -> "x509.KeyUsage":
    from cryptography import x509

    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    return x509.KeyUsage(
        **{name: uses.get(name, False) for name in names.split()}, encipher_only=False, decipher_only=False
    )


def _issuer_id(issuer: "x509.Certificate") -> "x509.AuthorityKeyIdentifier":
    from cryptography import x509

    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _general_name(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _signed(builder: "x509.CertificateBuilder", private: str) -> "x509.Certificate":
    from cryptography.hazmat.primitives import hashes

    return builder.sign(_read_key(private), hashes.SHA256())


def _common_name(certificate: "x509.Certificate") -> str:
    from cryptography.x509.oid import NameOID

    return "".join(str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))


def _signed_by(certificate: "x509.Certificate", issuer: "x509.Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, InvalidSignature):  # another name; another key
        return False
    return True


def _new_key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _read(pem: str) -> "x509.Certificate":
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem.encode())


def _read_key(pem: str) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of an elliptic curve")
    return key


def _pem(certificate: "x509.Certificate") -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: "EllipticCurvePrivateKey | RSAPrivateKey") -> str:
    from cryptography.hazmat.primitives import serialization as form

    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _days(number: int) -> datetime.timedelta:
    return datetime.timedelta(days=number)
