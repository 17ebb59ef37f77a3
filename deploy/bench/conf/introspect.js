// Asks the introspection endpoint and answers with the claims as headers, which
// nginx keeps in its cache until X-Accel-Expires. Runs on a cache miss only.

function bareId(type, reference) {
    const id = String(reference).replace(new RegExp('^' + type + '/'), '');
    return /^[A-Za-z0-9.-]{1,64}$/.test(id) ? id : undefined;
}

function ascii(text) {
    return text.replace(/[\u0080-\uffff]/g, (c) => '\\u' + ('000' + c.charCodeAt(0).toString(16)).slice(-4));
}

function text(value) {
    return encodeURIComponent(value).replace(/%(2[0-4]|2[6-9A-F]|3[A-F]|40|5[B-E]|60|7[B-E])/g,
        (c) => String.fromCharCode(parseInt(c.slice(1), 16)));
}

async function verdict(r) {
    const body = 'token=' + encodeURIComponent(r.headersIn.Token) + '&token_type_hint=access_token';
    const reply = await r.subrequest('/introspect', { method: 'POST', body });
    let claims;
    try {
        claims = JSON.parse(reply.responseText);
    } catch (e) {
        claims = undefined;
    }
    if (reply.status !== 200 || !claims || typeof claims.active !== 'boolean') {
        r.return(503);
        return;
    }
    const now = Math.floor(Date.now() / 1000);
    if (!claims.active || claims.exp <= now || claims.nbf > now + 5 || claims.iat > now + 5) {
        r.headersOut['X-Accel-Expires'] = '5';
        r.return(401);
        return;
    }
    const set = (name, value) => {
        if (value !== undefined && value !== '') {
            r.headersOut['Launch-' + name] = value;
        }
    };
    const setText = (name, value) => set(name, value === undefined ? value : text(value));
    set('Patient', claims.patient && bareId('Patient', claims.patient));
    set('Encounter', claims.encounter && bareId('Encounter', claims.encounter));
    setText('User', claims.fhirUser || claims.user);
    setText('Intent', claims.intent);
    setText('Tenant', claims.tenant);
    setText('Subject', claims.sub);
    setText('Issuer', claims.iss);
    setText('Client-Id', claims.client_id || claims.azp);
    setText('Scope', claims.scope);
    if (claims.fhirContext) {
        const items = [].concat(claims.fhirContext).map((c) => typeof c === 'string' ? { reference: c } : c);
        set('Fhir-Context', ascii(JSON.stringify(items)));
    }
    set('Expires', claims.exp && String(Math.floor(claims.exp)));
    r.headersOut['X-Accel-Expires'] = claims.exp ? '@' + Math.floor(claims.exp) : '30';
    r.return(204);
}

export default { verdict };
