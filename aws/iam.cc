#include "aws/iam.h"

#include <utility>

#include "aws/query.h"
#include "aws/xml.h"
#include "base/strings.h"

namespace sbxfs::aws {

void Iam::SimulatePrincipalPolicy(const std::string& principal,
                                  const std::vector<std::string>& actions, DecisionsDone done) {
    QueryParameters parameters = {{"PolicySourceArn", principal}};
    for (std::size_t i = 0; i < actions.size(); ++i)
        parameters.emplace_back("ActionNames.member." + std::to_string(i + 1), actions[i]);
    service_->Call(
        QueryCall("SimulatePrincipalPolicy", "2010-05-08", std::move(parameters), Repeat::kSafe),
        [done = std::move(done)](Outcome<HttpResponse> answer) {
            if (!answer) return done(std::move(answer).failure());
            const auto xml = Xml::Parse(answer->body);
            const auto list =
                xml ? xml->Find("SimulatePrincipalPolicyResult/EvaluationResults") : std::nullopt;
            if (!list)
                return done(Malformed("iam:SimulatePrincipalPolicy", "no EvaluationResults in it"));
            std::map<std::string, Decision> decisions;
            for (const Xml& one : list->Children("member")) {
                const std::string said = one.TextAt("EvalDecision").value_or("");
                decisions[one.TextAt("EvalActionName").value_or("")] = {said == "allowed", said};
            }
            done(std::move(decisions));
        });
}

std::string PolicyPrincipal(const std::string& caller_arn) {
    const std::vector<std::string> parts = Split(caller_arn, ':');
    if (parts.size() != 6 || !parts[5].starts_with("assumed-role/")) return caller_arn;
    const std::vector<std::string> words = Split(parts[5], '/');
    if (words.size() < 2) return caller_arn;
    return parts[0] + ":" + parts[1] + ":iam::" + parts[4] + ":role/" + words[1];
}

}  // namespace sbxfs::aws
